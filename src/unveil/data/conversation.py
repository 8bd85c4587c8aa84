"""One prompt and one completion, plain or conversational: what is accepted, and how a shared start is found.

A prompt is a string or a list of messages `{"role", "content"}`. A completion is a string, or a list with one
assistant message, whose content is the completion. The content of a message is a string, or a list of text parts
`{"type": "text", "text": ...}`, which are joined.
"""

from typing import Any

from unveil.data.bad_rows import BadRow
from unveil.errors import shortened

Message = dict[str, Any]
# Chat completions call a part `text`; the newer interface of the same endpoint says which side wrote it.
TEXT_PARTS = ("text", "input_text", "output_text")
Prompt = str | list[Message]


def read_prompt(value: Any) -> Prompt:
    """The prompt itself, or `BadRow`."""
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        raise BadRow("the prompt is empty")
    if isinstance(value, str):
        return value
    messages = _read_messages(value, "prompt")
    if messages[-1]["role"] == "assistant":
        raise BadRow("the prompt ends with an assistant message", "end prompts with the user's message")
    return messages


def read_completion(value: Any, prompt: Any) -> str:
    """The text of a completion, or `BadRow`. Messages are accepted only where the prompt has messages too.

    `prompt` is the row's, read or as given.
    """
    if isinstance(value, list) and value:
        if isinstance(prompt, str):
            raise BadRow(
                "the prompt is plain text but the completion is a list of messages",
                "give both as text or both as messages",
            )
        messages = _read_messages(value, "completion")
        if len(messages) > 1:
            raise BadRow(f"the completion is a list of {len(messages)} messages", "give one assistant message")
        if messages[0]["role"] != "assistant":
            raise BadRow("the completion is not an assistant message", "give one assistant message")
        value = messages[0].get("content")
    if value is None or value == [] or (isinstance(value, str) and not value.strip()):
        raise BadRow("the completion is empty")
    if not isinstance(value, str):
        raise BadRow(f"the completion is not text but {type(value).__name__}")
    return value


def split_messages(value: Any) -> tuple[Prompt, str]:
    """`messages` -> everything before the last message, and the text of the last, which must be the assistant's."""
    if not isinstance(value, list) or len(value) < 2:
        raise BadRow("messages holds no prompt with an answer", "give a user and an assistant message at least")
    prompt = read_prompt(value[:-1])
    return prompt, read_completion(value[-1:], prompt)


def split_common_start(chosen: Any, rejected: Any) -> tuple[Prompt, Any, Any]:
    """(prompt, chosen, rejected) of a pair whose prompt is only given as the common start of both.

    Messages: the longest common list. Text: the longest common text that ends with a whole word; the white space
    after it goes to the completions.
    """
    if isinstance(chosen, str) and isinstance(rejected, str):
        start = _common_text(chosen, rejected)
    elif isinstance(chosen, list) and isinstance(rejected, list):
        start = _common_messages(chosen, rejected)
    else:
        raise BadRow("chosen and rejected are not both text or both lists of messages")
    if start == 0:
        raise BadRow("chosen and rejected have no common start that could be the prompt", "add a prompt column")
    return read_prompt(chosen[:start]), chosen[start:], rejected[start:]


def _common_text(chosen: str, rejected: str) -> int:
    if chosen == rejected:
        raise BadRow("chosen and rejected are the same text, so that no prompt can be found", "add a prompt column")
    length = 0
    for one, other in zip(chosen, rejected):
        if one != other:
            break
        length += 1
    following = (chosen[length : length + 1], rejected[length : length + 1])
    if all(character == "" or character.isspace() for character in following):
        return length
    while length and not chosen[length - 1].isspace():  # the two texts part inside a word: leave it whole
        length -= 1
    while length and chosen[length - 1].isspace():
        length -= 1
    return length


def _common_messages(chosen: list[Message], rejected: list[Message]) -> int:
    length = 0
    while length < min(len(chosen), len(rejected)) and chosen[length] == rejected[length]:
        length += 1
    # In an identical pair the last message is still an answer, not a part of the prompt.
    return length - 1 if length == len(chosen) == len(rejected) else length


def _read_messages(value: Any, what: str) -> list[Message]:
    if not isinstance(value, list):
        raise BadRow(f"the {what} is neither text nor a list of messages but {type(value).__name__}")
    return [_read_message(message, what) for message in value]


def _read_message(message: Any, what: str) -> Message:
    if not isinstance(message, dict) or not isinstance(message.get("role"), str):
        raise BadRow(f"the {what} holds a message without a role", 'write messages as {"role", "content"}')
    content = message.get("content")
    if isinstance(content, str) or (content is None and message.get("tool_calls")):
        return message
    if content is None:
        raise BadRow(f"the {what} holds a message without content", 'write messages as {"role", "content"}')
    if not isinstance(content, list):
        raise BadRow(
            f"the {what} holds a message whose content is neither text nor a list of text parts but "
            f"{type(content).__name__}",
            'write messages as {"role", "content"}, with text as content',
        )
    return {**message, "content": "".join(_text_of(part, what) for part in content)}


def _text_of(part: Any, what: str) -> str:
    """The text of one part of a message's content; what is no text cannot be learned from."""
    kind = part.get("type") if isinstance(part, dict) else type(part).__name__
    text = part.get("text") if isinstance(part, dict) else None
    if kind not in TEXT_PARTS or not isinstance(text, str):
        raise BadRow(
            f"the {what} holds a message with a part of the type {shortened(kind)}, and only text is read",
            'give text parts only, as {"type": "text", "text": ...}',
        )
    return text


def join_text_parts(value: Any) -> Any:
    """Messages anywhere in `value` with their text parts joined; everything else, faults too, as it is.

    So that messages with text and messages with text parts fit into one column.
    """
    if isinstance(value, list):
        return [join_text_parts(one) for one in value]
    if isinstance(value, dict) and isinstance(value.get("role"), str) and isinstance(value.get("content"), list):
        try:
            return _read_message(value, "message")
        except BadRow:
            return value
    return value
