"""How well do the tests notice mistakes? One line is broken at a time, and the tests that run the line are run.

    python -m tools.mutants                            400 mutants of the folders in `__main__.FOLDERS`
    python -m tools.mutants plan output -n 60 --seed 3
    python -m tools.mutants --report                   what the journal knows, nothing is run

A mutant is the program with one changed place. It is killed if a test fails, if the tests can't be collected, or if
they take far longer than before; it survives if they all pass. A survivor shows a line whose meaning no test holds, or
a change that changes nothing; then survivors.toml says so.

    changes.py   the operators: which changes there are
    measure.py   which tests run which line, from one run of the tests under coverage.py
    sample.py    the seeded sample, in proportion to folders and operators
    trial.py     one mutant, tried on a copy of the tree; `plugin.py` is what pytest loads for that
    report.py    shares with their interval, and the survivors with the reasons that survivors.toml gives

Nothing is written outside `.mutants/`: the copy of the tree, what was measured, and the journal. A second run goes on
where the first one stopped: a mutant is tried again only if its file has changed, or, for a survivor, if the tests that
run it have.
"""
