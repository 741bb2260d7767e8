"""Registry: from a name to a pluggable component, found by looking, never by import side effects.

Built-in components are declared as plain data in the modules of one package: every module (or
sub-package with a module of the given name) that assigns the registry's attribute, a tuple of
components, takes part. Other packages join through an entry point whose name is the registry name.
Families (``mdcsrn_b{B}u{U}_k{K}``) are components that answer ``variant(name)``.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.metadata
import importlib.util
import pkgutil
from collections.abc import Callable, Collection, Iterable
from typing import Any, Generic, Protocol, TypeVar

from mrsr_bench import UserError


class Named(Protocol):
    """What a component needs to be registered: a name."""

    @property
    def name(self) -> str:
        """What the component is called."""
        ...


T = TypeVar("T", bound=Named)


def unknown_name(kind: str, name: str, known: Collection[str]) -> UserError:
    """The sentence for a name that nothing bears, with near names or all there are."""
    near = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are: {', '.join(known)}"
    return UserError(f"there is no {kind} called {name!r}; {hint}")


def typed_names(typed: Iterable[str]) -> list[str]:
    """Names from repeated and comma-separated values, in order, each once."""
    names = (name.strip() for value in typed for name in value.split(","))
    return list(dict.fromkeys(name for name in names if name))


class Registry(Generic[T]):
    """Components of one kind by name, in the order of declaration, then of entry points.

    ``package`` is searched for modules that assign ``attribute`` (an iterable of components).
    With ``submodule``, sub-packages are searched and only that module of each is imported.
    ``variants`` are callables that make a component from a name no component bears, or return None.
    """

    def __init__(
        self,
        kind: str,
        package: str,
        attribute: str,
        *,
        submodule: str | None = None,
        entry_points: str | None = None,
    ) -> None:
        self.kind = kind
        self.package = package
        self.attribute = attribute
        self.submodule = submodule
        self.entry_points = entry_points
        self._components: dict[str, T] | None = None
        self._variants: list[Callable[[str], T | None]] = []

    def _modules(self) -> Iterable[Any]:
        package = importlib.import_module(self.package)
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name):
            name = f"{self.package}.{info.name}"
            if self.submodule is not None:
                if not info.ispkg:
                    continue
                name = f"{name}.{self.submodule}"
                if importlib.util.find_spec(name) is None:
                    continue
            yield importlib.import_module(name)

    def _load(self) -> dict[str, T]:
        if self._components is not None:
            return self._components
        found: dict[str, T] = {}
        for module in self._modules():
            for component in getattr(module, self.attribute, ()):
                if component.name in found:
                    raise RuntimeError(f"two {self.kind}s are named {component.name!r}")
                found[component.name] = component
            variant = getattr(module, "variant", None)
            if variant is not None:
                self._variants.append(variant)
        if self.entry_points is not None:
            for point in importlib.metadata.entry_points(group=self.entry_points):
                if point.name in found:
                    raise UserError(
                        f"the entry point {point.name!r} of {point.value} has the name of a {self.kind} "
                        "that exists already; rename it in that package"
                    )
                try:
                    found[point.name] = point.load()
                except Exception as error:
                    raise UserError(
                        f"the {self.kind} {point.name!r} could not be loaded from {point.value}: "
                        f"{type(error).__name__}: {error}; repair or uninstall that package"
                    ) from error
        self._components = found
        return found

    def names(self) -> list[str]:
        """Every registered name; family variants that are made on demand are not among them."""
        return list(self._load())

    def all(self) -> list[T]:
        """Every registered component."""
        return list(self._load().values())

    def get(self, name: str) -> T:
        """The component called ``name``.

        Raises:
            UserError: no component bears that name; near names are suggested.
        """
        components = self._load()
        if name in components:
            return components[name]
        for variant in self._variants:
            made = variant(name)
            if made is not None:
                return made
        raise unknown_name(self.kind, name, components)
