"""The search of a book that is opened from the disk: a word is typed, pages are found, and they can be gone to."""


def test_a_word_typed_on_the_search_page_finds_pages(open_page, book_html):
    page = open_page("search.html").page
    field = page.locator("#searchbox input[name=q], form.bd-search input[name=q]").locator("visible=true").first
    field.fill("anchors")
    field.press("Enter")
    page.wait_for_url("**/search.html?q=anchors*")
    page.wait_for_function(
        "() => document.querySelector('#search-results .search-summary')?.textContent.includes('found')"
    )
    links = page.locator("#search-results li a")
    assert links.count() > 3
    named = [href.partition("#")[0] for href in links.evaluate_all("all => all.map(a => a.getAttribute('href'))")]
    assert "executed/orthogonalization.html" in named and all((book_html / name).is_file() for name in named)
    links.first.click()
    page.wait_for_url(f"**/{named[0]}*")


def test_the_search_of_any_page_leads_there(open_page):
    page = open_page("intro.html").page
    page.locator("button.search-button-field").click()
    page.locator("#search-input").fill("threshold")
    page.keyboard.press("Enter")
    page.wait_for_url("**/search.html?q=threshold*")
    page.wait_for_function("() => document.querySelectorAll('#search-results li').length > 3")


def test_what_is_nowhere_is_said_to_be_nowhere(open_page):
    page = open_page("search.html?q=zyzzyva").page
    page.wait_for_function(
        "() => document.querySelector('#search-results .search-summary')?.textContent.includes('not match')"
    )
    assert page.locator("#search-results li").count() == 0
