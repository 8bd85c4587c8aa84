"""What judges share that read both answers in one text, made from a template."""

from typing import Any

from unveil.judging.template import Template


class TemplateJudge:
    """What stands first in the text may be favoured, so such a judge is asked in both orders."""

    template: Template

    @property
    def symmetric(self) -> bool:
        """False: what stands first may be favoured."""
        return False

    @property
    def reads_columns(self) -> bool:
        """Whether the template shows more than the prompt and the answers."""
        return bool(self.template.columns)

    def require_row(self, row: dict[str, Any]) -> None:
        """Raise UserError for a row that lacks a column of the template, before there is any answer."""
        self.template.messages("", "", "", row)
