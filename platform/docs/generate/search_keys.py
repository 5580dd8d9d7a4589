"""Write the table of the keys of a search file."""

from markdown_text import code, table

from off2on.search.spec import KEYS, OBJECTIVES, OPTIONS, RANGES, SEARCHERS, SEEDS, STOP_RULES, TRIALS_TO_RUN

MARK = "<!-- search keys -->"
"""Replaced by the table in the text of a page."""


def _words(names: tuple[str, ...]) -> str:
    return ", ".join(map(code, names))


MEANINGS = {
    "algorithm": "name of an algorithm; a list of them is searched",
    "data": "name of a data set; of several, the score of a trial is the mean",
    "strategy": "name of a strategy; a list of them is searched",
    "search": "what is searched: names of hyperparameters, `online.NAME` or `strategy.NAME`, each with a "
    f"range ({_words(RANGES)}), or `default` for the hyperparameter's own",
    "with": "values that are the same in all trials",
    "maximise": f"the measure: {_words(OBJECTIVES)}",
    "seeds": "number of runs of a trial on each data set",
    "trials": "number of trials",
    "by": f"choice of the values: {_words(SEARCHERS)}",
    "stop_early": f"rule that stops weak trials: {_words(STOP_RULES)}",
    "out": "folder of the results",
}
"""Meanings of the keys that are not options of ``off2on train``."""

DEFAULTS = {
    "strategy": "as in `off2on train`",
    "maximise": code(OBJECTIVES[0]),
    "seeds": str(SEEDS),
    "trials": f"{TRIALS_TO_RUN}; `grid`: all points",
    "by": code(SEARCHERS[0]),
    "stop_early": code(STOP_RULES[0]),
    "out": "`runs/tune/` and the name of the file",
}
"""Defaults of these keys; a key that is absent here has none."""


def search_keys_table() -> str:
    """Return the table of the keys, with the options of ``off2on train`` in its last row."""
    own = [key for key in KEYS if key not in OPTIONS]
    rows = [[code(key), MEANINGS[key], DEFAULTS.get(key, "")] for key in own]
    of_train = "[`off2on train`](cli.md#off2on-train)"
    rows.append([_words(OPTIONS), f"as in {of_train}", "the same, but `threads: 1`"])
    return table(["key", "meaning", "default"], rows)
