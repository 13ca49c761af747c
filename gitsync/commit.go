package gitsync

import (
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-git/go-git/v5/plumbing/object"
	"github.com/go-git/go-git/v5/plumbing/storer"
)

// maxText bounds what is kept of a commit's author and subject, in bytes.
const maxText = 256

// commit is what is known of a head's commit.
type commit struct {
	head
	objects storer.EncodedObjectStorer
	author  string // name <email>
	subject string
	when    time.Time
}

func readCommit(objects storer.EncodedObjectStorer, at head) (commit, error) {
	c, err := object.GetCommit(objects, at.hash)
	if err != nil {
		return commit{}, fmt.Errorf("commit %s: %w", at.hash, err)
	}
	subject, _, _ := strings.Cut(strings.TrimSpace(c.Message), "\n")
	return commit{head: at, objects: objects, author: authorOf(c), subject: clean(subject), when: c.Committer.When.UTC()}, nil
}

func authorOf(c *object.Commit) string {
	return clean(fmt.Sprintf("%s <%s>", c.Author.Name, c.Author.Email))
}

// clean makes text of a commit storable: UTF-8, of bounded length. Who prints it takes care of control characters.
func clean(text string) string {
	text = strings.ToValidUTF8(strings.TrimSpace(text), "\ufffd")
	for len(text) > maxText {
		_, size := utf8.DecodeLastRuneInString(text[:maxText])
		text = text[:maxText-size] + "…"
		if len(text) > maxText {
			text = text[:maxText-size-3]
		}
	}
	return text
}
