"""studio: a local page on which people choose a model and a budget, and see the mix move; edit its recipe, and take it.

    newest.py       a thread that works on the newest request first
    opened.py       a model that is open, with all that its mixes have in common
    moves.py        a goal → the mix that loses least, and the recipe that says so
    document.py     a plan → what the page shows of it
    editing.py      a recipe's text → its problems, its plan, its files
    completion.py   what may stand at a place of a recipe's text
    session.py      the models that are open, and what the command line said
    app.py          the routes, and what keeps strangers out; server.py: the port, the browser, Ctrl-C
    static/         the page

Only app.py and server.py know of HTTP; they alone need the extra `studio`.
"""
