"""What people do on the page, in Debian's Chromium: every action by mouse and by keyboard, every page looked at by axe.

URL FACTS PICTURES   FACTS is JSON: password, studies (uid, series, accession, patient_id, job); both jobs are held.
                     Screenshots go to the folder PICTURES. Prints a line for each step.
"""

import json
import pathlib
import sys
import time

from axe_core_python.selenium import Axe
from browser import KEYBOARD, MOUSE, Browser
from selenium.webdriver.common.keys import Keys

root, facts, pictures = sys.argv[1], json.loads(sys.argv[2]), pathlib.Path(sys.argv[3])
first, second = facts["studies"]
RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "best-practice"]}
VIEWS = [(scheme, width) for scheme in ("light", "dark") for width in (1280, 390)]


def look(page, name):
    """Screenshots in light and dark, wide and narrow; axe finds nothing, and nothing needs scrolling sideways."""
    for scheme, width in VIEWS:
        page.show_as(scheme, width)
        found = Axe().run(page.driver, options=RULES)["violations"]
        told = [(v["id"], [n["html"][:200] + n["failureSummary"] for n in v["nodes"]]) for v in found]
        page.picture(pictures / f"{name}-{scheme}-{'wide' if width > 700 else 'narrow'}.png")
        assert not found, f"{name}, {scheme}, {width}: {told}"
        wide = page.run("return document.scrollingElement.scrollWidth - window.innerWidth")
        assert wide <= 0, f"{name} is {wide} pixels wider than a screen of {width}"
    page.show_as("light", 1280)
    print("looked at", name)


def wait_for_state(page, state):
    for _ in range(240):
        if page.text("main p .state") == state:
            return
        time.sleep(0.5)
        page.again()
    raise AssertionError(f"no {state}: {page.text('main')}")


def sign_in(page, name, password=facts["password"], how=KEYBOARD):
    page.type("input[name=name]", name, how)
    page.type("input[name=password]", password, how)
    page.do("main form button", how)


def sign_out(page, how):
    page.do("form.who button", how)
    assert page.place() == "/sign-in", page.place()
    page.go("/jobs")
    assert page.place() == "/sign-in?next=/jobs", page.place()


def an_operator_acts(page):
    page.go(f"/jobs/{first['job']}")
    assert page.place() == f"/sign-in?next=/jobs/{first['job']}"
    look(page, "sign-in")
    sign_in(page, "operator", "not the right password", MOUSE)
    assert "do not fit" in page.text("[role=alert]")
    look(page, "sign-in-refused")
    sign_in(page, "operator")
    assert page.place() == f"/jobs/{first['job']}", page.place()
    page.do("a.brand", MOUSE)
    look(page, "studies")
    page.do("a[href='/jobs?state=held']", KEYBOARD)
    assert [first["job"], second["job"]] == sorted_jobs(page), page.text("main")
    look(page, "jobs")

    page.do(f"a[href='/jobs/{first['job']}']", MOUSE)
    look(page, "job-held")
    page.do(".actions form[action$=release] button", KEYBOARD)
    wait_for_state(page, "done")
    print("released by keyboard")

    page.go(f"/jobs/{second['job']}")
    page.do(".actions form[action$=cancel] button", MOUSE)
    wait_for_state(page, "cancelled")
    look(page, "job-cancelled")
    page.do(".actions form[action$=retry] button", KEYBOARD)
    wait_for_state(page, "done")
    print("cancelled by mouse, tried again by keyboard")


def sorted_jobs(page):
    return sorted(a.text for a in page.all("td[data-label=job] a"))


def an_operator_sees_slices(page):
    page.go(f"/jobs/{first['job']}")
    look(page, "job")
    slider, source = "input[name=slice]", lambda: page.attribute("#slice", "src")
    before = source()
    page.press(slider, KEYBOARD, Keys.ARROW_RIGHT)
    assert page.wait(lambda: source() != before and page.is_loaded("#slice")), source()
    shown = page.text("#number")
    assert f"slice={shown}" in source(), (shown, source())
    page.scroll("#slice", 300)
    assert page.wait(lambda: page.text("#number") == str(int(shown) + 1)), page.text("#number")
    for how in (KEYBOARD, MOUSE):
        layer = "[role=switch][data-number='1']"
        was = page.attribute(layer, "aria-checked")
        page.press(layer, how, " ")
        assert page.attribute(layer, "aria-checked") != was, how
        hide = "hide=1" if was == "true" else "hide="
        assert page.wait(lambda: source().endswith(f"&{hide}") and page.is_loaded("#slice")), source()
    page.do("input[name=plane][value=sagittal]", MOUSE)
    assert "plane=sagittal" in page.place(), page.place()
    page.press("input[name=plane]:checked", KEYBOARD, Keys.ARROW_LEFT)
    assert page.wait(lambda: "plane=coronal" in page.place()), page.place()
    page.press("details summary", KEYBOARD, Keys.ENTER)
    assert page.wait(lambda: page.is_loaded("details img")), "no preview"
    result = page.attribute("ul.plain a", "href")
    kind = "const [to, done] = arguments; fetch(to).then(a => a.arrayBuffer()).then(b => done(" \
        "new TextDecoder().decode(b.slice(128, 132))))"
    assert page.driver.execute_async_script(kind, result) == "DICM"
    print("slices scrolled, planes and targets switched by both")


def an_operator_retries_a_delivery(page):
    for how in (KEYBOARD, MOUSE):
        page.go("/deliveries?state=failed")
        assert page.wait(lambda: page.again() or page.all("td.failed"), 60), page.text("main")
        if how == KEYBOARD:
            look(page, "deliveries")
        page.do("td[data-label=job] a", how)
        retry = ".actions form[action$=retry] button"
        attempts = page.text("main").count("delivery retried")
        page.do(retry, how)
        assert page.wait(lambda: page.text("main").count("delivery retried") > attempts), page.text("main")
    print("a failed delivery tried again by both")


def an_operator_orders(page):
    for how, target in ((KEYBOARD, "spleen"), (MOUSE, "aorta")):
        page.go("/")
        page.do(f"a[href='/studies/{first['uid']}']", how)
        if how == KEYBOARD:
            look(page, "study")
        page.choose("select[name=series]", first["series"])
        page.type("textarea[name=targets]", target, how)
        page.do("form[action='/jobs/order'] button", how)
        assert page.place().startswith("/jobs/"), page.place()
        assert "on-request" in page.text("main"), page.text("main")
        wait_for_state(page, "done")
    print("ordered by both")


def an_operator_matches(page):
    for how in (KEYBOARD, MOUSE):
        page.go("/protocols")
        page.type("input[name=series]", first["series"], how)
        page.do("main form button", how)
        rows = page.text("main [role=status]")
        assert "everyday" in rows and "matched" in rows, rows
        if how == KEYBOARD:
            look(page, "protocols")
        page.type("input[name=series]", "1.2.3", how)
        page.do("main form button", how)
        assert page.attribute("p.failed", "textContent") == "nothing was received of this series", page.text("p.failed")
    print("matched by both")


def lists_follow_by_themselves(page):
    page.go("/jobs?state=quarantined")
    page.do(".chips a[href='/jobs?state=done']", KEYBOARD)
    assert {first["job"], second["job"]} <= set(sorted_jobs(page))
    assert not page.all("a[href='/audit']")
    page.go("/audit")
    assert "role does not allow this" in page.text("main")
    look(page, "refused")


def a_viewer_sees_and_changes_nothing(page):
    sign_in(page, "viewer", how=MOUSE)
    for place in (f"/jobs/{first['job']}", f"/studies/{first['uid']}"):
        page.go(place)
        assert [form.get_attribute("action") for form in page.all("form[method=post]")] == [root + "/sign-out"], place
    sign_out(page, KEYBOARD)
    print("a viewer was offered nothing to change")


def an_auditor_searches(page):
    sign_in(page, "auditor")
    page.go("/")
    page.do("a[href='/audit']", KEYBOARD)
    assert "signed in" in page.text("main") and "operator by" in page.text("main"), page.text("main")
    look(page, "audit")
    asked = [first["accession"], first["patient_id"], first["series"], first["job"]]
    for count, words in enumerate(asked):
        how = (KEYBOARD, MOUSE)[count % 2]
        page.type("input[name=words]", words, how)
        page.do("main form button", how)
        assert first["uid"] in page.text("main"), page.text("main")
        assert page.place() == "/audit" and page.attribute("input[name=words]", "value") == "", page.place()
        if count == 0:
            assert words not in page.driver.page_source
            look(page, "audit-found")
    page.type("input[name=words]", "nothing of ours", KEYBOARD)
    page.do("main form button", KEYBOARD)
    assert "nothing of it was received" in page.text("[role=status]")
    look(page, "audit-nothing")
    page.go(f"/jobs/{first['job']}")
    assert not page.all(".actions"), "an auditor was offered actions"
    sign_out(page, MOUSE)
    print("an auditor searched by both")


def an_admin_does_both(page):
    sign_in(page, "admin")
    page.go(f"/studies/{first['uid']}")
    assert page.all("form[action='/jobs/order']") and page.all("a[href='/audit']")
    page.press("a.skip", KEYBOARD, Keys.ENTER)
    assert page.place() == f"/studies/{first['uid']}#content", page.place()
    page.go("/studies/1.2.3")
    assert "no such study" in page.text("main")
    look(page, "not-found")
    page.do("main a", KEYBOARD)
    sign_out(page, MOUSE)


with Browser(root) as page:
    an_operator_acts(page)
    an_operator_sees_slices(page)
    an_operator_retries_a_delivery(page)
    an_operator_orders(page)
    an_operator_matches(page)
    lists_follow_by_themselves(page)
    page.go("/")
    sign_out(page, KEYBOARD)
    a_viewer_sees_and_changes_nothing(page)
    an_auditor_searches(page)
    an_admin_does_both(page)
    page.assert_no_complaints()
