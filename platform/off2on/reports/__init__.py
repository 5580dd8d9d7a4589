"""Reports: HTML pages with figures, from run folders alone.

run.py         one run, or several             groups.py     the seeds of one algorithm and strategy
comparison.py  fine-tuning strategies          sections.py   the data of the sections of run.py
data.py        a data set                      figures.py    colours, and the figures of runs
search/        a search                        page.py       templates, tables, figures within a size limit
images.py      figures as PNG                 templates/     the layout of the pages
"""
