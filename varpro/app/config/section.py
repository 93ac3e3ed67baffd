"""A mapping of a configuration: the base of everything that has keys."""

import ast
import inspect
import textwrap
from typing import Any

import pydantic


class Section(pydantic.BaseModel):
    """A mapping that knows its keys and no others."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _remember_keys(cls, data: Any, info: Any) -> Any:
        # An error says where it happened but not which keys would have been right there.
        if isinstance(data, dict) and info.context is not None:
            info.context[id(data)] = [f.alias or n for n, f in cls.model_fields.items()]
        return data

    @classmethod
    def texts(cls) -> dict[str, str]:
        """What stands below each key in the source. pydantic would look for it at every start."""
        texts: dict[str, str] = {}
        for base in reversed(cls.__mro__):
            if (
                not issubclass(base, Section)
                or base is Section
                or base.__module__ == "pydantic.main"
            ):
                continue
            try:
                source = textwrap.dedent(inspect.getsource(base))
            except (OSError, TypeError):  # made from a basis, which says it itself
                continue
            (body,) = ast.parse(source).body
            assert isinstance(body, ast.ClassDef)
            for field, after in zip(body.body, body.body[1:], strict=False):
                if not (isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)):
                    continue
                if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
                    texts[field.target.id] = " ".join(str(after.value.value).split())
        return texts
