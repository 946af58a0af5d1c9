"""The dialects, one per file; `DIALECTS` holds them in the order of their file names."""

import importlib
import pkgutil

from deployments.dialect import Dialect

DIALECTS: list[Dialect] = [
    importlib.import_module(f"{__name__}.{file.name}").dialect for file in pkgutil.iter_modules(__path__)
]
