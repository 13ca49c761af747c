package load

import (
	"context"
	"fmt"
)

// Tree is what load reads: the part of a repository under --path, as a commit, a directory or an upload has it.
// Git, Dir and Files make one. It must not change while it is being loaded.
type Tree interface {
	// Prefix is where the tree stands in its repository, slash-separated, "" for the root: problems name files from there.
	Prefix() string
	// List returns what a directory holds, in the order of its names; the directory is an Entry of this tree, or the zero
	// Entry for the tree itself. It returns a *TooLargeError rather than read more than a directory may hold.
	List(ctx context.Context, dir Entry) ([]Entry, error)
	// Read returns the content of a file, or where a symbolic link points. It returns a *TooLargeError, before
	// it has read or unpacked anything, if that is more than limit bytes.
	Read(ctx context.Context, file Entry, limit int64) ([]byte, error)
}

// Entry is a name in a tree.
type Entry struct {
	Path string // from the tree's root, slash-separated
	Mode Mode
	ID   string // the same for the same content, as a Git hash is; "" if that is not known without reading
}

// Mode says what an Entry is.
type Mode uint8

// The modes that matter to load; whether a file is executable does not.
const (
	ModeOther Mode = iota // nothing a Git tree may hold: a device, a socket
	ModeFile
	ModeDir
	ModeSymlink
	ModeSubmodule
)

// TooLargeError says that something is larger than load would read.
type TooLargeError struct{ Size, Limit int64 }

func (e *TooLargeError) Error() string {
	return fmt.Sprintf("is %d bytes large; at most %d are read", e.Size, e.Limit)
}
