"""A mapping of a configuration: the base of everything that has keys."""

from typing import Any

import pydantic


class Section(pydantic.BaseModel):
    """A mapping that knows its keys and no others."""

    model_config = pydantic.ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    @pydantic.model_validator(mode="before")
    @classmethod
    def _remember_keys(cls, data: Any, info: Any) -> Any:
        # An error says where it happened but not which keys would have been right there.
        if isinstance(data, dict) and info.context is not None:
            info.context[id(data)] = [f.alias or n for n, f in cls.model_fields.items()]
        return data
