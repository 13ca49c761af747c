package state

import (
	"errors"
	"fmt"

	"github.com/mainstay-cluster/mainstay/object"
)

// Levels say which formats of what is stored there are. Servers of different versions work together because nothing is written
// that one of them cannot read: not before the cluster has reached the level that it came with.
type Levels struct {
	Known   int                // the newest that this program reads
	Reached func(r Reader) int // the cluster's, which never goes down; what was written may need it
}

// SetLevels gives a schema its levels. One without writes and reads everything it has.
func SetLevels(s *Schema, l Levels) { s.levels = l }

// Level is the newest format level that this program reads.
func (s *Schema) Level() int { return s.levels.Known }

var (
	// ErrNewer ends what is said of something that this program does not know.
	ErrNewer = errors.New("was written by a newer Mainstay than this one: upgrade this server")
	// ErrLevel is about what not all servers of the cluster would understand.
	ErrLevel = errors.New("not all servers understand this yet")
)

// mayWrite refuses objects of a kind that is newer than the cluster.
func (tx *Txn) mayWrite(k object.Kind) error {
	levels := tx.base.schema.levels
	if levels.Reached == nil || k.Since == 0 {
		return nil
	}
	if reached := levels.Reached(tx); k.Since > reached {
		return fmt.Errorf("%w: objects of kind %s need format level %d, and the cluster has reached %d: upgrade the other servers", ErrLevel, k.Kind, k.Since, reached)
	}
	return nil
}

// readable refuses a state whose servers have agreed on more than this program knows, whatever of it was written yet.
func (s *Snapshot) readable() error {
	levels := s.schema.levels
	if levels.Reached == nil {
		return nil
	}
	if reached := levels.Reached(s); reached > levels.Known {
		return fmt.Errorf("the cluster has reached format level %d, this Mainstay knows up to %d, and what follows %w", reached, levels.Known, ErrNewer)
	}
	return nil
}
