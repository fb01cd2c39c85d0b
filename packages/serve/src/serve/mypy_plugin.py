"""What mypy cannot see by itself: classes that ``@serve.deployment`` decorates, and the methods behind a handle.

Switched on by ``plugins = ["serve.mypy_plugin"]`` in mypy's configuration. Then ``Model.bind(...)`` of a decorated
class is checked against its constructor, and ``handle.predict.remote(...)`` of a ``DeploymentHandle[Model]`` against
``Model.predict``, without `serve.method` and `serve.typed`.
"""

from __future__ import annotations

from collections.abc import Callable

from mypy.nodes import ARG_STAR2, Argument, FuncDef, Var
from mypy.plugin import AttributeContext, ClassDefContext, Plugin
from mypy.plugins.common import add_method_to_class
from mypy.typeops import bind_self
from mypy.types import AnyType, CallableType, Instance, Type, TypeOfAny, TypeType, get_proper_type

_DEPLOYMENT = "serve.api.deployment.deployment"
_APPLICATION = "serve.api.deployment.Application"
_HANDLES = tuple(f"serve.handle.deployment_handle.{name}" for name in ("DeploymentHandle", "StreamingHandle"))


class ServePlugin(Plugin):
    """See the module's docstring."""

    def get_class_decorator_hook_2(self, fullname: str) -> Callable[[ClassDefContext], bool] | None:
        """Return what completes a class that is decorated with the function of this name."""
        return _complete if fullname == _DEPLOYMENT else None

    def get_attribute_hook(self, fullname: str) -> Callable[[AttributeContext], Type] | None:
        """Return what knows the type of an attribute of this name."""
        owner, _, name = fullname.rpartition(".")
        return (lambda context: _method(context, name)) if owner in _HANDLES else None


def _complete(context: ClassDefContext) -> bool:
    """Give a decorated class ``bind`` and ``options``."""
    info = context.cls.info
    application = context.api.named_type_or_none(_APPLICATION, [Instance(info, [])])
    if application is None:
        return False
    anything = AnyType(TypeOfAny.explicit)
    if "bind" not in info.names:
        add_method_to_class(
            context.api, context.cls, "bind", _constructor_arguments(context), application, is_classmethod=True
        )
    if "options" not in info.names:
        options = Argument(Var("options", anything), anything, None, ARG_STAR2)
        same = TypeType(Instance(info, []))
        add_method_to_class(context.api, context.cls, "options", [options], same, is_classmethod=True)
    return True


def _constructor_arguments(context: ClassDefContext) -> list[Argument]:
    found = context.cls.info.get_method("__init__")
    if not isinstance(found, FuncDef) or found.info.fullname == "builtins.object":
        return []
    kind = found.type
    types = (
        kind.arg_types if isinstance(kind, CallableType) else [AnyType(TypeOfAny.unannotated)] * len(found.arguments)
    )
    given = zip(found.arguments, types, strict=True)
    return [
        Argument(Var(argument.variable.name, of), of, argument.initializer, argument.kind)
        for argument, of in list(given)[1:]
    ]


def _method(context: AttributeContext, name: str) -> Type:
    """Return the type of a handle to one method of the deployment's class."""
    handle = get_proper_type(context.type)
    if not isinstance(handle, Instance) or not handle.args or handle.type.get(name):
        return context.default_attr_type
    deployed = get_proper_type(handle.args[0])
    if not isinstance(deployed, Instance):
        return context.default_attr_type
    found = deployed.type.get_method(name)
    if found is None:
        if not deployed.type.get(name) and not deployed.type.fallback_to_any:
            context.api.fail(f'"{deployed.type.name}" has no method "{name}" to call by a handle', context.context)
        return context.default_attr_type
    kind = get_proper_type(found.type)
    if not isinstance(kind, CallableType):
        return context.default_attr_type
    return Instance(handle.type, [bind_self(kind, deployed)])


def plugin(version: str) -> type[Plugin]:
    """Return the plugin (mypy asks for it)."""
    return ServePlugin
