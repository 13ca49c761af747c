package cli

import (
	"fmt"
	"io"
	"os"
	"regexp"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/mainstay-cluster/mainstay/object"
)

// The colours used, as ANSI's numbers: the terminal's own palette, so that they suit its background.
const (
	bold   = "1"
	faint  = "2"
	red    = "31"
	green  = "32"
	yellow = "33"
	cyan   = "36"
)

// paint colours text if w is a terminal and NO_COLOR is not set.
func paint(w io.Writer, colour, text string) string {
	if text == "" || colour == "" || !isTerminal(w) || os.Getenv("NO_COLOR") != "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb"
}

// widthOf is how many columns w has, 0 if it is no terminal.
func widthOf(w io.Writer) int {
	if !isTerminal(w) {
		return 0
	}
	width, _, err := term.GetSize(int(w.(*os.File).Fd()))
	if err != nil {
		return 0
	}
	return width
}

// fit cuts text to width columns; 0 leaves it whole.
func fit(text string, width int) string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:max(width-1, 0)]) + "…"
}

// oneLine makes text from a repository or a container harmless to a terminal.
func oneLine(text string) string {
	return object.Printable(strings.Join(strings.Fields(text), " "))
}

// quoted is a commit's subject in quotation marks. Those inside stay as they are: Git's own subjects have some, as in Revert "…".
func quoted(subject string) string { return `"` + oneLine(subject) + `"` }

// progress says what is being waited for: one changing line on a terminal, a plain line per change elsewhere.
type progress struct {
	w    io.Writer
	last string // what was said, as backOff leaves it
}

// backOff is what an image that cannot be pulled says every other time, around the same error.
var backOff = regexp.MustCompile(`ImagePullBackOff: Back-off pulling image "[^"]*": (ErrImagePull: )`)

func (p *progress) say(text string) {
	plain := backOff.ReplaceAllString(text, "$1")
	if plain == p.last {
		return
	}
	p.last = plain
	if isTerminal(p.w) {
		fmt.Fprintf(p.w, "\r\x1b[K%s", fit(text, widthOf(p.w)-1))
		return
	}
	fmt.Fprintln(p.w, text)
}

// clear removes the line from a terminal, so that the answer can stand in its place.
func (p *progress) clear() {
	if p.last != "" && isTerminal(p.w) {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	p.last = ""
}
