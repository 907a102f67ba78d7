"""Validates JSON by the part of JSON Schema (2020-12) that the shipped schemas use."""

import json
import pathlib

_TYPES = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "number": (int, float),
    "integer": int,
}
_ASIDE = {"$schema", "$defs", "title", "description"}


def schema(name: str) -> dict:
    """A shipped schema: "hand" or "parameters"."""
    folder = pathlib.Path(__file__).parents[1] / "dgn_tf" / "schemas"
    return json.loads((folder / f"{name}.schema.json").read_text())


def faults(value, rules: dict, whole: dict | None = None, at: str = "") -> list[str]:
    """What is wrong, a line each; KeyError: the schema uses a keyword that is not known here."""
    whole, found = whole or rules, []
    for keyword, wanted in rules.items():
        if keyword in _ASIDE or (keyword in _OF_TYPE and not isinstance(value, _OF_TYPE[keyword])):
            continue
        if keyword == "$ref":
            found += faults(value, whole["$defs"][wanted.rpartition("/")[2]], whole, at)
        elif keyword == "properties":
            for name in wanted.keys() & value.keys():
                found += faults(value[name], wanted[name], whole, f"{at}/{name}")
        elif keyword == "additionalProperties":
            for name in value.keys() - rules.get("properties", {}).keys():
                if wanted is False:
                    found.append(f"{at}/{name}: not in the schema")
                else:
                    found += faults(value[name], wanted, whole, f"{at}/{name}")
        elif keyword == "items":
            for number, item in enumerate(value):
                found += faults(item, wanted, whole, f"{at}/{number}")
        elif not _CHECKS[keyword](value, wanted):
            found.append(f"{at}: {keyword} {wanted}, got {str(value)[:40]}")
    return found


def _is(value, kind) -> bool:
    number = kind in ("number", "integer")
    return isinstance(value, _TYPES[kind]) and not (number and isinstance(value, bool))


_OF_TYPE = {
    **dict.fromkeys(("properties", "additionalProperties", "required", "minProperties"), dict),
    **dict.fromkeys(("items", "minItems", "maxItems"), list),
    **dict.fromkeys(("minimum", "maximum"), (int, float)),
}
_CHECKS = {
    "type": _is,
    "const": lambda value, wanted: value == wanted,
    "enum": lambda value, wanted: value in wanted,
    "required": lambda value, wanted: set(wanted) <= value.keys(),
    "minProperties": lambda value, wanted: len(value) >= wanted,
    "minItems": lambda value, wanted: len(value) >= wanted,
    "maxItems": lambda value, wanted: len(value) <= wanted,
    "minimum": lambda value, wanted: value >= wanted,
    "maximum": lambda value, wanted: value <= wanted,
}
