"""Pages of one HTML file each, with their figures.

run.py         of one run, or several beside each other      groups.py    the seeds of an algorithm, in words
comparison.py  of ways across from the same handovers        sections.py  the parts of a page
data.py        of a data set                                 figures.py   colours, habits, and a run's figures
"""
