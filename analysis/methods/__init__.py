"""Methods of length generalisation behind one interface: name, description, citation, and a fit to a model."""

from __future__ import annotations

from .method import Fitted, Method, Setup, Task, fit
from .registry import METHODS, SETS, chosen_methods, find_method, setup_of

__all__ = ["METHODS", "SETS", "Fitted", "Method", "Setup", "Task", "chosen_methods", "find_method", "fit", "setup_of"]
