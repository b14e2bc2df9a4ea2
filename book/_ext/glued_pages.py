"""A page that shows another page's glued numbers is written anew when that page has changed.

MyST-NB fills in what is glued from another document when it writes the page, but Sphinx writes only pages that were
read again. So this remembers which page borrows from which.
"""

from myst_nb.ext.glue.utils import PendingGlueReference


def remember(app, doctree):
    lenders = {reference.refdoc for reference in doctree.findall(PendingGlueReference)}
    borrowed = app.env.tedloc_borrowed = getattr(app.env, "tedloc_borrowed", {})
    borrowed.pop(app.env.docname, None)
    if lenders:
        borrowed[app.env.docname] = lenders


def outdated(app, env, added, changed, removed):
    read = added | changed
    borrowed = getattr(env, "tedloc_borrowed", {})
    return [page for page, lenders in borrowed.items() if lenders & read and page not in removed]


def setup(app):
    app.connect("doctree-read", remember)
    app.connect("env-get-outdated", outdated)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
