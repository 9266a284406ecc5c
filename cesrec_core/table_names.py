"""Names of tables and schemas in a catalog, as configurations write them: words joined by dots, without quotes."""

import re

# Hyphens, which catalogs allow, besides letters, digits and underscores.
_WORD = r"[\w-]+"
SCHEMA_PATTERN = rf"^{_WORD}(\.{_WORD})?$"
_TABLE = re.compile(rf"{_WORD}(\.{_WORD}){{0,2}}")
# Spark's names of conditions, and Unity Catalog's, that say of a name that it is wrong, or not this user's to see.
_SIGNS_OF_ANOTHERS = (
    *("CATALOG_NOT_FOUND", "NO_SUCH_CATALOG", "SCHEMA_NOT_FOUND", "NO_SUCH_SCHEMA", "TABLE_OR_VIEW_NOT_FOUND"),
    *("REQUIRES_SINGLE_PART_NAMESPACE", "INSUFFICIENT_PERMISSIONS", "PERMISSION_DENIED"),
)


def is_table_name(name: str) -> bool:
    return _TABLE.fullmatch(name) is not None


def quoted(name: str) -> str:
    """As Spark SQL reads it, whatever its words hold."""
    return ".".join(f"`{word}`" for word in name.split("."))


def is_of_another(message: str) -> bool:
    """Whether an error of Spark says that there is nothing of such a name, or nothing that this user may see."""
    return any(sign in message for sign in _SIGNS_OF_ANOTHERS)
