package object

import (
	"strings"
	"unicode"
)

// maxShown is how much of a repository's own text a message or a table repeats, in characters.
const maxShown = 64

// Printable replaces what could move a terminal's cursor or hide text.
func Printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '·'
	}, text)
}

// Shorten makes text of a repository fit for one line of a terminal.
func Shorten(text string) string {
	text = Printable(text)
	if runes := []rune(text); len(runes) > maxShown {
		return string(runes[:maxShown-1]) + "…"
	}
	return text
}
