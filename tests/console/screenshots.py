#!/usr/bin/env python3
"""Pictures of every page of the console in light, dark and narrow, to be looked at.

    screenshots.py URL DIRECTORY [LABELLED.csv]

URL is a server without keys, with a table in it. The page Try shows some texts of customer support; Evaluate runs
the file when one is given. Live is looked at for as long as $SECONDS says (5), so that its charts have something to show:
`synaptoroute load` beside it gives the server work.
"""

import os
import sys
import time

from browser import Browser, find_chromium

LOOKS = {
    "light": {"height": 860},
    "dark": {"height": 860, "dark": True},
    "narrow": {"width": 390, "height": 844, "touch": True, "scale": 2},
    "narrow-dark": {"width": 390, "height": 844, "touch": True, "scale": 2, "dark": True},
}
TEXTS = ("Do you have a vacancy?", "I want my money back", "My parcel is late and nobody answers")


def show_try(page):
    for text in TEXTS:
        page.click("#text")
        page.evaluate("document.querySelector('#text').select()")
        page.write(text)
        page.press("Enter")
        page.wait(f"document.querySelector('.asked q')?.textContent === '{text}'")


def show_route(page):
    page.click(".scroller a")
    page.wait("document.querySelector('.utterances li')")


def show_map(page):
    page.wait("document.querySelector('.keys button')")


def show_overlap(page):
    if page.wait("document.querySelector('.overlaps li, .mapping aside p')") and page.evaluate(
        "document.querySelectorAll('.overlaps li').length"
    ):
        page.click(".overlaps button")
        page.evaluate("document.querySelector('.plot canvas').focus()")
        page.press("n")


def show_live(page):
    time.sleep(float(os.environ.get("SECONDS", "5")))


def show_evaluate(page):
    if len(sys.argv) > 3:
        page.choose_file("input[type=file]", os.path.abspath(sys.argv[3]))
        page.click("button", "Evaluate")
        page.wait("document.querySelector('.matrix')", timeout=120)


def show_matrix(page):
    page.evaluate("document.querySelector('.matrix')?.scrollIntoView()")


STEPS = (
    ("try", "try", show_try),
    ("routes", "routes", lambda page: page.wait("document.querySelector('.scroller a')")),
    ("route", "routes", show_route),
    ("map", "map", show_map),
    ("overlap", "map", show_overlap),
    ("live", "live", show_live),
    ("evaluate", "evaluate", show_evaluate),
    ("matrix", "evaluate", show_matrix),
)


def main():
    base, directory = sys.argv[1].rstrip("/"), sys.argv[2]
    os.makedirs(directory, exist_ok=True)
    browser = Browser(find_chromium())
    try:
        for look, settings in LOOKS.items():
            page = browser.page(**settings)
            page.open(base + "/")
            page.wait("document.querySelector('nav')")
            for name, place, show in STEPS:
                page.evaluate(f"location.hash.startsWith('#/{place}') || (location.hash = '#/{place}')")
                show(page)
                time.sleep(0.4)
                page.screenshot(os.path.join(directory, f"{name}-{look}.png"))
            print(look, *page.complaints(), sep="\n  ")
            page.close()
    finally:
        browser.close()


if __name__ == "__main__":
    main()
