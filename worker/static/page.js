// Everything here works without this script too; with it, slices scroll and lists keep up to date.
'use strict';

const viewer = document.getElementById('viewer');
if (viewer) {
  const image = document.getElementById('slice');
  const form = viewer.querySelector('form');
  const number = document.getElementById('number');
  const range = form.elements.slice;
  const hide = form.elements.hide;
  const hidden = new Set(hide.value.split(',').filter(Boolean));
  let isLoading = false;
  let isStale = false;

  const show = () => {
    number.value = range.value;
    if (isLoading) { isStale = true; return; }
    isLoading = true;
    const query = new URLSearchParams({ plane: form.elements.plane.value, slice: range.value, hide: [...hidden].join(',') });
    image.src = `${viewer.dataset.source}?${query}`;
    image.alt = `${form.elements.plane.value} slice ${range.value} with the targets that are switched on`;
  };
  const loaded = () => {
    isLoading = false;
    if (isStale) { isStale = false; show(); }
  };
  image.addEventListener('load', loaded);
  image.addEventListener('error', loaded);
  range.addEventListener('input', show);
  // Planes have different numbers of slices: the page knows them.
  for (const plane of form.elements.plane) {
    plane.addEventListener('change', () => { range.disabled = true; form.submit(); });
  }
  image.addEventListener('wheel', (event) => {
    event.preventDefault();
    range.value = Number(range.value) + Math.sign(event.deltaY);
    show();
  }, { passive: false });
  for (const layer of viewer.querySelectorAll('[role=switch]')) {
    layer.addEventListener('click', (event) => {
      event.preventDefault();
      const own = layer.dataset.number;
      const isShown = !hidden.delete(own);
      if (isShown) { hidden.add(own); }
      layer.setAttribute('aria-checked', String(!isShown));
      hide.value = [...hidden].join(',');
      show();
    });
    layer.addEventListener('keydown', (event) => {
      if (event.key === ' ') { event.preventDefault(); layer.click(); }
    });
  }
}

const live = document.querySelector('[data-live]');
if (live && !new URLSearchParams(location.search).has('after')) {
  setInterval(async () => {
    if (document.hidden || live.contains(document.activeElement)) { return; }
    try {
      const answer = await fetch(location.href);
      if (!answer.ok || answer.redirected) { return; }
      const page = new DOMParser().parseFromString(await answer.text(), 'text/html');
      const fresh = page.querySelector('[data-live]');
      if (fresh && fresh.innerHTML !== live.innerHTML) { live.innerHTML = fresh.innerHTML; }
    } catch (error) { /* The service is away: the next look may find it. */ }
  }, 5000);
}
