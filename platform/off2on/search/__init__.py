"""Hyperparameter searches: a YAML file defines the search space, Ray Tune runs trials of several seeds.

reading.py  from a file to a search        ranges.py   what varies, and in which range
spec.py     the search and its runs        names.py    owners of the names of settings
checks.py   that every value can be        book.py     what is known of the trials, on disk
asking.py   which values a trial gets      trial.py    a trial: its seeds together
scoring.py  what a trial is worth          room.py     what a trial takes of a cluster
run.py      the whole, resumable
"""
