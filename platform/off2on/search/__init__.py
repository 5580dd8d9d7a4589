"""Searches: a YAML file says what varies, Ray Tune runs the trials, each of several seeds.

file.py    what is written where          spec.py     what a search is, and that it can be
checks.py  that every value can be        asking.py   which values a trial gets
trial.py   a trial: its seeds together    scoring.py  what a trial is worth
run.py     the whole, resumable
"""
