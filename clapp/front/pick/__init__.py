"""Picking rules: from a front to the one model to use.

A rule is a list of bounds and a goal, see `clapp.front.pick.rules`.
"""

from clapp.front.pick.choose import Finished as Finished
from clapp.front.pick.choose import pick as pick
from clapp.front.pick.resampled import Stability as Stability
from clapp.front.pick.resampled import stability as stability
from clapp.front.pick.rules import describe_rules as describe_rules
from clapp.front.pick.rules import folder_name as folder_name
from clapp.front.pick.rules import meaning as meaning
from clapp.front.pick.rules import rules as rules
