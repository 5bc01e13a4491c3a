from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from starfish_server.storage._file_names import FOLDER_SUFFIX, FileNames, is_continued
from starfish_server.storage.keys import is_legal_key
from starfish_server.testing import LEGAL_KEYS

TRICKY = st.text(alphabet="aAdD.%~/é\U0010ffff24", max_size=30)
KEYS = st.one_of(
    TRICKY, st.text(max_size=20), TRICKY.map(lambda text: text * 40), st.sampled_from(LEGAL_KEYS)
).filter(is_legal_key)


def path_of(key: str, *, escape_case: bool) -> str:
    folders, name = FileNames(escape_case=escape_case).of_key(key)
    return "/".join([*folders, name])


@pytest.mark.parametrize("escape_case", [False, True], ids=["kept", "escaped"])
@given(keys=st.lists(KEYS, min_size=2, max_size=4, unique=True))
@example(keys=["a.d", "a.d/b", "a", "a/b"])
@example(keys=["a%2Fb", "a/b"])
@example(keys=["x" * 199 + ".d", "x" * 199 + "/d"])
def test_no_two_keys_share_a_path_and_no_file_is_a_folder(
    keys: list[str], *, escape_case: bool
) -> None:
    paths = [path_of(key, escape_case=escape_case) for key in keys]
    if escape_case:
        paths = [path.lower() for path in paths]

    assert len(set(paths)) == len(paths)
    for one in paths:
        assert not any(other.startswith(one + "/") for other in paths)


@pytest.mark.parametrize("escape_case", [False, True], ids=["kept", "escaped"])
@given(key=KEYS)
@example(key="..." + "x" * 300)
@example(key="x" * 198 + ".d/y")
def test_a_path_leads_back_to_its_key_and_suits_any_file_system(
    key: str, *, escape_case: bool
) -> None:
    names = FileNames(escape_case=escape_case)
    folders, name = names.of_key(key)
    segments: list[str | None] = []
    begun = ""
    for folder in folders:
        if is_continued(folder):
            begun += folder[:-1]
        else:
            assert folder.endswith(FOLDER_SUFFIX) or (begun + folder).endswith(FOLDER_SUFFIX)
            segments.append(names.segment(begun + folder, is_folder=True))
            begun = ""
    segments.append(names.segment(begun + name, is_folder=False))

    assert segments == key.split("/")
    for part in [*folders, name]:
        assert part.isascii()
        assert 0 < len(part) <= 201
        assert part not in (".", "..", ".starfish")
        assert part[-1] not in ". "
    assert [*folders, name][0][0] != "."
    assert len("/".join([*folders, name])) <= 3600


@given(name=st.text(alphabet="abA.d%2F0é~", min_size=1, max_size=12), is_folder=st.booleans())
def test_a_name_stands_for_a_segment_only_if_it_is_the_name_of_that_segment(
    name: str, *, is_folder: bool
) -> None:
    names = FileNames(escape_case=False)
    segment = names.segment(name, is_folder=is_folder)

    if segment is not None and is_legal_key(segment):
        made = names.of_folders([segment]) if is_folder else names.of_key(segment)[1:]
        assert list(made) == [name]
