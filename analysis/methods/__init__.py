"""Methods of length generalisation behind one interface: name, description, citation, and a fit to a model."""

from __future__ import annotations

from .method import Fitted, Method, Task, fit
from .registry import METHODS, SETS, chosen_methods, find_method

__all__ = ["METHODS", "SETS", "Fitted", "Method", "Task", "chosen_methods", "find_method", "fit"]
