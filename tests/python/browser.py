"""Debian's Chromium without a window, driven as a person would: by mouse, or by keyboard from the top of the page."""

import base64

from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from selenium.common.exceptions import TimeoutException

KEYBOARD, MOUSE = "keyboard", "mouse"
# What a browser says of its own accord about answers that a test asks for.
EXPECTED = ("status of 401", "status of 403", "status of 404")


class Browser:
    def __init__(self, root):
        options = webdriver.ChromeOptions()
        options.binary_location = "/usr/bin/chromium"
        for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-background-networking", "no-first-run"):
            options.add_argument(f"--{argument}")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        service = webdriver.ChromeService("/usr/bin/chromedriver")
        self.root, self.driver = root, webdriver.Chrome(options, service)
        self.driver.set_page_load_timeout(60)
        self.driver.set_script_timeout(60)
        self.show_as("light", 1280)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is not None:
                print(f"at {self.place()}: {self.text('body')}")
        finally:
            self.driver.quit()

    def show_as(self, scheme, width):
        screen = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 700}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", screen)
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})

    def picture(self, path):
        height = self.run("return Math.min(document.documentElement.scrollHeight, 3000)")
        width = self.run("return window.innerWidth")
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        asked = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        path.write_bytes(base64.b64decode(
            self.driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]))

    def go(self, place):
        self.driver.get(self.root + place)

    def again(self):
        self.driver.refresh()

    def place(self):
        return self.driver.current_url.removeprefix(self.root)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def text(self, selector):
        return self.one(selector).text

    def attribute(self, selector, name):
        return self.one(selector).get_attribute(name)

    def wait(self, condition, seconds=20):
        try:
            return WebDriverWait(self.driver, seconds).until(lambda _: condition())
        except TimeoutException:
            return False

    def is_loaded(self, selector):
        return self.run("const i = arguments[0]; return i.complete && i.naturalWidth > 0", self.one(selector))

    def do(self, selector, how):
        """Clicks what leads to another page, or walks to it with Tab and presses Enter, and waits for that page."""
        self.run("window.isOld = true")
        self.press(selector, how, Keys.ENTER)
        is_new = "return !window.isOld && document.readyState === 'complete'"
        assert self.wait(lambda: self.run(is_new)), f"{selector} led nowhere: {self.text('main')}"

    def press(self, selector, how, key):
        """Clicks an element, or walks to it with Tab and presses a key."""
        element = self.one(selector)
        if how == MOUSE:
            element.click()
        else:
            self.walk_to(element)
            self.driver.switch_to.active_element.send_keys(key)

    def type(self, selector, text, how):
        element = self.one(selector)
        element.clear()
        if how == MOUSE:
            element.click()
        else:
            self.walk_to(element)
        self.driver.switch_to.active_element.send_keys(text)

    def choose(self, selector, text):
        Select(self.one(selector)).select_by_visible_text(text)

    def scroll(self, selector, amount):
        origin = webdriver.common.actions.wheel_input.ScrollOrigin.from_element(self.one(selector))
        webdriver.ActionChains(self.driver).scroll_from_origin(origin, 0, amount).perform()

    def walk_to(self, element):
        """Tab after Tab from the top of the page; what has the focus must be seen to have it."""
        self.run("document.activeElement.blur(); window.getSelection().removeAllRanges()")
        for _ in range(200):
            webdriver.ActionChains(self.driver).send_keys(Keys.TAB).perform()
            focused = self.driver.switch_to.active_element
            if focused == element:
                style = "return getComputedStyle(arguments[0]).outlineStyle"
                assert self.run(style, element) != "none", f"no outline on {element.get_attribute('outerHTML')}"
                return
        raise AssertionError(f"no Tab leads to {element.get_attribute('outerHTML')}")

    def assert_no_complaints(self):
        """The browser reported no error of a script, of a missing file or of the content security policy."""
        said = [entry["message"] for entry in self.driver.get_log("browser")]
        said = [message for message in said if not any(words in message for words in EXPECTED)]
        assert not said, said
