"""One page of a bank: numbers of its files (facts), pictures of them made by hand, and the HTML around these.

`facts.gather` reads a bank into a frozen record with NumPy alone; `page.render` makes one self-contained text of it.
What has to be computed from images, `measured.Measured`, is handed in: jobs/report.py has it made, or takes it from the
page that was there before. Nothing here imports torch but examples.py, which is imported where images are looked at.
"""
