package load

import (
	"bytes"
	"unicode/utf8"
)

// checkText finds what makes a file no text of ours, before any parser sees it, and returns the text without a byte order mark.
// ok is false if the rest of the file must not be looked at.
func checkText(data []byte, p *problems) (text []byte, ok bool) {
	if message := notText(data); message != "" {
		p.lose(position{1, 1}, "%s", message)
		return nil, false
	}
	text = bytes.TrimPrefix(data, []byte("\ufeff"))
	if at, message := firstBadCharacter(text); message != "" {
		p.lose(positionOf(text, at), "%s", message)
		return nil, false
	}
	if at, ok := conflictMarker(text); ok {
		p.lose(positionOf(text, at), "merge conflict: resolve it and remove the markers")
		return nil, false
	}
	return text, true
}

// notText recognises whole files that are something else.
func notText(data []byte) string {
	switch {
	case bytes.HasPrefix(data, []byte("version https://git-lfs.github.com/spec/")):
		return "is a Git LFS pointer, not a manifest: keep manifests in Git itself, or list the file in .mainstayignore"
	case bytes.HasPrefix(data, []byte("\xff\xfe")), bytes.HasPrefix(data, []byte("\xfe\xff")):
		return "is UTF-16 or UTF-32 text: save it as UTF-8"
	case bytes.HasPrefix(data, []byte("-----BEGIN AGE ENCRYPTED FILE-----")), bytes.HasPrefix(data, []byte("age-encryption.org/")):
		return "is encrypted with age: encrypted files are not carried out by this version of Mainstay"
	case bytes.HasPrefix(data, []byte("\x1f\x8b")), bytes.HasPrefix(data, []byte("\x89PNG")), bytes.HasPrefix(data, []byte("PK\x03\x04")):
		return "is a binary file: list it in .mainstayignore, or rename it"
	}
	return ""
}

// firstBadCharacter finds what no manifest may hold anywhere, not even in a comment.
func firstBadCharacter(text []byte) (at int, message string) {
	for i := 0; i < len(text); {
		c := text[i]
		switch {
		case c >= utf8.RuneSelf:
			r, n := utf8.DecodeRune(text[i:])
			if r == utf8.RuneError && n == 1 {
				return i, "is not UTF-8: save the file as UTF-8"
			}
			if hidesText(r) {
				return i, "holds an invisible character that changes the direction of text, so that it reads otherwise than it runs: remove it"
			}
			i += n
			continue
		case c == 0:
			return i, "holds a NUL byte: a manifest is text"
		case c == '\r' && (i+1 == len(text) || text[i+1] != '\n'):
			return i, "ends lines with CR alone: save the file with LF or CR LF"
		case c < ' ' && c != '\t' && c != '\n' && c != '\r', c == 0x7f:
			return i, "holds a control character: remove it, or write it as an escape in double quotes"
		}
		i++
	}
	return 0, ""
}

// hidesText reports the bidirectional controls that "Trojan Source" uses.
func hidesText(r rune) bool {
	return r >= '\u202a' && r <= '\u202e' || r >= '\u2066' && r <= '\u2069'
}

var conflictMarks = [][]byte{[]byte("<<<<<<< "), []byte(">>>>>>> ")}

// conflictMarker finds what git leaves at the start of a line; no YAML has it there.
func conflictMarker(text []byte) (at int, ok bool) {
	for _, mark := range conflictMarks {
		if bytes.HasPrefix(text, mark) {
			return 0, true
		}
		if i := bytes.Index(text, append([]byte("\n"), mark...)); i >= 0 {
			return i + 1, true
		}
	}
	return 0, false
}

// positionOf turns an offset into a line and a column.
func positionOf(text []byte, offset int) position {
	before := text[:min(offset, len(text))]
	start := bytes.LastIndexByte(before, '\n') + 1
	return position{line: 1 + bytes.Count(before, []byte("\n")), col: 1 + utf8.RuneCount(before[start:])}
}

// lineOf returns a line's text, without its end; lines count from 1.
func lineOf(text []byte, line int) []byte {
	for ; line > 1; line-- {
		i := bytes.IndexByte(text, '\n')
		if i < 0 {
			return nil
		}
		text = text[i+1:]
	}
	text, _, _ = bytes.Cut(text, []byte("\n"))
	return bytes.TrimSuffix(text, []byte("\r"))
}
