import pytest

from cesrec_core.table_names import is_table_name, quoted


@pytest.mark.parametrize("name", ["items", "cesrec.items", "shop-eu.cesrec-dev.items", "2026.items"])
def test_names_of_catalogs(name: str) -> None:
    assert is_table_name(name)


@pytest.mark.parametrize("name", ["", "a.b.c.d", "a..b", "a.b.", "`a`.b", "a b", "a;b", "a/b", "items\n"])
def test_what_is_no_name(name: str) -> None:
    assert not is_table_name(name)


def test_each_word_is_quoted() -> None:
    assert quoted("shop-eu.cesrec-dev.items") == "`shop-eu`.`cesrec-dev`.`items`"
