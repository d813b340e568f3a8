"""The figures of a report, as plain plotly documents: one function a figure.

Colours that depend on the light or dark scheme are CSS variables of the page, which its script
resolves. Points carry the number of their trial, from which the page finds the card to show.
"""
