"""The figures of a report, as plain plotly documents: one function a figure.

Colours that follow the page's light or dark scheme are written as the page's own CSS variables,
which its script resolves. Points carry the number of their trial, by which the page finds what to
show beside the mouse.
"""
