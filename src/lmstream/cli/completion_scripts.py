"""Completion scripts of bash, zsh and fish, from the tree of verbs. At a press of the tabulator they ask `__values`."""

from collections.abc import Iterable, Iterator, Sequence

from lmstream.cli.completion import Flag, Verb

_HEAD = "# lmstream: completion for {0}. Made by `lmstream completion {0}`; run it again after an upgrade."


def bash(tree: Sequence[Verb]) -> str:
    """For bash from 3.2 on: nothing of the package bash-completion is needed."""
    word = "${COMP_WORDS[n]}"
    lines = [
        _HEAD.format("bash"),
        '_lmstream_values() { lmstream __values "$1" 2>/dev/null; }',
        "_lmstream() {",
        "  local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} at= next= n=1 words=",
        "  COMPREPLY=()",
        "  while [ $n -lt $COMP_CWORD ]; do",
        f'    next="$at${{at:+ }}{word}"',
        f'    case "$next" in {_any(verb.name for verb in tree)}) at=$next ;; esac',
        "    n=$((n+1))",
        "  done",
        '  case "$at:$prev" in',
        *(f"    '{verb.name}:{flag.name}') {_bash_reply(flag)}; return ;;" for verb, flag in _taking(tree)),
        "  esac",
        '  case "$at" in',
        f"    '') words='{_words(verb.name for verb in _tops(tree))} help --help --version' ;;",
    ]
    for verb in tree:
        lines.append(f"    '{verb.name}') words='{_words(verb.below or (flag.name for flag in verb.flags))}'")
        lines += [f"      [[ $cur == -* ]] || {{ {_bash_reply(target)}; return; }}" for target in verb.targets[:1]]
        lines.append("      ;;")
    lines += ["  esac", '  COMPREPLY=( $(compgen -W "$words" -- "$cur") )', "}", "complete -F _lmstream lmstream"]
    return "\n".join(lines) + "\n"


def _bash_reply(flag: Flag) -> str:
    """What completes a value: choices, names that were seen, and paths."""
    asked = [f"-W '{_words(flag.choices)}'"] if flag.choices else []
    asked += [f'-W "$(_lmstream_values {flag.values})"'] if flag.values else []
    asked += ["-f"] if flag.path else []
    return "; ".join(f'COMPREPLY+=( $(compgen {each} -- "$cur") )' for each in asked) or ":"


def zsh(tree: Sequence[Verb]) -> str:
    """For zsh: a file _lmstream in a folder of $fpath."""
    lines = [
        "#compdef lmstream",
        _HEAD.format("zsh"),
        '_lmstream_values() { compadd -- ${(f)"$(lmstream __values $1 2>/dev/null)"} }',
        "_lmstream() {",
        "  local at='' word next prev=${words[CURRENT-1]}",
        "  local -a found",
        "  for word in ${words[2,CURRENT-1]}; do",
        '    next="$at${at:+ }$word"',
        f'    case "$next" in ({_any(verb.name for verb in tree)}) at=$next ;; esac',
        "  done",
        '  case "$at:$prev" in',
        *(f"    ('{verb.name}:{flag.name}') {_zsh_reply(flag)}; return ;;" for verb, flag in _taking(tree)),
        "  esac",
        '  case "$at" in',
        f"    ('') found=({_described((verb.name, verb.about) for verb in _tops(tree))}); _describe verb found ;;",
    ]
    for verb in tree:
        if verb.below:
            below = [each for each in tree if each.name.startswith(f"{verb.name} ")]
            described = _described((each.name.rpartition(" ")[2], each.about) for each in below)
            lines.append(f"    ('{verb.name}') found=({described}); _describe verb found ;;")
            continue
        lines.append(f"    ('{verb.name}')")
        lines += [f"      [[ $PREFIX == -* ]] || {{ {_zsh_reply(target)} }}" for target in verb.targets[:1]]
        described = _described((flag.name, flag.about) for flag in verb.flags)
        lines.append(f"      found=({described}); _describe -o flag found ;;")
    return "\n".join([*lines, "  esac", "}", 'if [ "$funcstack[1]" = _lmstream ]; then _lmstream "$@"; fi']) + "\n"


def _zsh_reply(flag: Flag) -> str:
    asked = [f"compadd -- {_words(flag.choices)}"] if flag.choices else []
    asked += [f"_lmstream_values {flag.values}"] if flag.values else []
    asked += ["_files"] if flag.path else []
    return "; ".join(asked) or ":"


def _described(pairs: Iterable[tuple[str, str]]) -> str:
    """Entries of _describe: the name to the first colon, then what it is."""
    return " ".join("'" + f"{name}:{about}".replace("'", "'\\''") + "'" for name, about in pairs)


def fish(tree: Sequence[Verb]) -> str:
    """For fish: ~/.config/fish/completions/lmstream.fish."""
    names = _words(_fish_text(verb.name) for verb in tree)
    lines = [
        _HEAD.format("fish"),
        "function __lmstream_at",
        "    set -l at",
        "    for word in (commandline -opc)[2..]",
        '        set -l next (string trim -- "$at $word")',
        f"        contains -- $next {names}; and set at $next",
        "    end",
        '    test "$at" = "$argv"',
        "end",
        "complete -c lmstream -f",
    ]
    for verb in tree:
        above, _, last = verb.name.rpartition(" ")
        place = _fish_text(f"__lmstream_at {above}".strip())
        lines.append(f"complete -c lmstream -n {place} -a {last} -d {_fish_text(verb.about)}")
        where = f"complete -c lmstream -n {_fish_text(f'__lmstream_at {verb.name}')}"
        for flag in () if verb.below else verb.flags:
            kind = "-l" if flag.name.startswith("--") else "-s"
            value = f" -r{_fish_reply(flag)}" if flag.takes else ""
            lines.append(f"{where} {kind} {flag.name.lstrip('-')}{value} -d {_fish_text(flag.about)}")
        lines += [f"{where}{_fish_reply(target)}" for target in verb.targets[:1]]
    return "\n".join(lines) + "\n"


def _fish_reply(flag: Flag) -> str:
    asked = _words(flag.choices)
    if flag.values:
        asked = f"(lmstream __values {flag.values} 2>/dev/null)"
    return (f" -a {_fish_text(asked)}" if asked else "") + (" -F" if flag.path else "")


def _fish_text(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _taking(tree: Sequence[Verb]) -> Iterator[tuple[Verb, Flag]]:
    """Every flag that a value follows."""
    return ((verb, flag) for verb in tree if not verb.below for flag in verb.flags if flag.takes)


def _tops(tree: Sequence[Verb]) -> Iterator[Verb]:
    return (verb for verb in tree if " " not in verb.name)


def _any(names: Iterable[str]) -> str:
    return "|".join(f"'{name}'" for name in names)


def _words(words: Iterable[str]) -> str:
    return " ".join(words)
