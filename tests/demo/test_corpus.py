"""Rebuilding the data from (miniature) source archives."""

import gzip
import io
import json
import sys
import tarfile

import pytest

from unveil.demo import corpus
from unveil.demo.reviews import select
from unveil.demo.sources import EDITORIALS, MAGAZINES, RATED_ARCHIVE, RATED_FILES, RATED_FOLDER


def packed(files):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.fixture
def archives(tmp_path):
    rated = {f"{RATED_FOLDER}/{file}": b"1\t2.26666666667\tA Fine Film \r\n" for file in RATED_FILES.values()}
    rated[f"{RATED_FOLDER}/{EDITORIALS}"] = b"1_1\t0.4\tThe city will plant trees next spring.\r\n"
    stolen = select("film", "report")[0].text
    vader, pattern = tmp_path / "vader.tar.gz", tmp_path / "pattern.tar.gz"
    vader.write_bytes(packed({RATED_ARCHIVE: packed(rated)}))
    copied = " ".join(f"{word}/NN" for word in f"{stolen} .".split())
    magazine = f"The/DT paper/NN reports/VBZ a/DT 3/CD -/: day/NN strike/NN ./.\n{copied}\ntoo/RB short/JJ ./.\n"
    pattern.write_bytes(packed({MAGAZINES: magazine.encode()}))
    return vader, pattern


def test_the_ratings_file_is_the_same_bytes_each_time(archives):
    first = corpus.reviews_asset(archives[0])
    assert first == corpus.reviews_asset(archives[0])
    assert gzip.decompress(first).decode() == (
        "domain,id,rating,text\nfilm,1,2.267,A Fine Film\nproduct,1,2.267,A Fine Film\n"
    )


def test_a_sentence_copied_from_a_heldout_snippet_is_left_out_and_counted(archives):
    rows, leaked = corpus.base_rows(*archives, snippet_repeats=1, prose_fraction=1.0)
    added = {row["source"]: row for row in rows if not row["source"].endswith("snippets")}
    assert leaked == {"magazines": 1}
    assert added == {
        "editorials": {
            "prompt": "text: the city will",
            "completion": " plant trees next spring.",
            "source": "editorials",
        },
        "magazines": {
            "prompt": "text: the paper reports",
            "completion": " a 3-day strike.",
            "source": "magazines",
        },
    }


def test_rated_snippets_are_repeated_and_pattern_is_optional(archives):
    once, _ = corpus.base_rows(archives[0], None, snippet_repeats=1, prose_fraction=1.0)
    thrice, _ = corpus.base_rows(archives[0], None, snippet_repeats=3, prose_fraction=1.0)
    assert len(thrice) - 1 == 3 * (len(once) - 1)


def test_a_missing_archive_is_told_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["corpus", "--vader_sdist", str(tmp_path / "no"), "--output_dir", str(tmp_path)])
    assert corpus.main() == 2
    message = capsys.readouterr().err
    assert message.startswith("--vader_sdist")
    assert message.count("\n") == 1


def test_the_command_writes_everything(archives, tmp_path, monkeypatch, capsys):
    folder = tmp_path / "out"
    vader, pattern = map(str, archives)
    flags = [
        "--vader_sdist",
        vader,
        "--pattern_sdist",
        pattern,
        "--output_dir",
        str(folder),
        "--snippet_repeats",
        "1",
    ]
    monkeypatch.setattr(sys, "argv", ["corpus", *flags])
    assert corpus.main() == 0
    assert "heldout product" in capsys.readouterr().out
    row = json.loads((folder / "base_train.jsonl").read_text().splitlines()[0])
    assert set(row) == {"prompt", "completion", "source"}
    assert (folder / "tokenizer" / "tokenizer.json").stat().st_size < 200_000
    assert (folder / "reviews.csv.gz").exists()
    assert (folder / "base_heldout.jsonl").exists()
