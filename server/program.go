package server

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"runtime/debug"
	"strings"
	"syscall"
	"time"
)

// mapping is one range of this process's memory that shows a file.
type mapping struct {
	from, to  uintptr
	mode      string // as in /proc/self/maps, e.g. r-xp
	path      string
	anonymous bool // parts of it were written, and are not the file's any more
}

// shrinkEvery is how often what the program did not need lately is given back. A look costs a millisecond.
const shrinkEvery = 30 * time.Second

// gcPercent lets garbage grow to half of what is alive, where Go's own choice is as much again: taking in 4 000 objects
// then peaks a tenth lower, in the same time. $GOGC, if set, decides.
const gcPercent = 50

// keepSmall keeps mapped only what runs of this program, which is half of it, until ctx ends, and garbage small.
func (s *server) keepSmall(ctx context.Context) error {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	for {
		if err := shrinkProgram(); err != nil {
			s.log.Debug("more memory is used than needed", "err", err)
			return nil
		}
		select {
		case <-time.After(shrinkEvery):
		case <-ctx.Done():
			return nil
		}
	}
}

// shrinkProgram unmaps this program's own code and tables; what is needed again comes back from the page cache. A kernel maps
// what lies around whatever is touched, and where the page cache holds the program in huge pages, as it does just after a
// build, soon all of it. It is about memory only: an error changes nothing.
func shrinkProgram() error {
	self, err := os.Readlink("/proc/self/exe")
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	smaps, err := os.Open("/proc/self/smaps")
	if err != nil {
		return fmt.Errorf("read what is mapped: %w", err)
	}
	defer smaps.Close()
	mapped, err := readMappings(bufio.NewScanner(smaps))
	if err != nil {
		return fmt.Errorf("read what is mapped: %w", err)
	}
	for _, m := range mapped {
		// What was written would be lost.
		if m.path != self || m.anonymous || m.mode != "r-xp" && m.mode != "r--p" {
			continue
		}
		if _, _, errno := syscall.Syscall(syscall.SYS_MADVISE, m.from, m.to-m.from, syscall.MADV_DONTNEED); errno != 0 {
			return fmt.Errorf("unmap %s at %x: %w", m.path, m.from, errno)
		}
	}
	return nil
}

// readMappings reads /proc/PID/smaps.
func readMappings(lines *bufio.Scanner) (found []mapping, err error) {
	for lines.Scan() {
		var m mapping
		var offset, device, inode string
		if n, _ := fmt.Sscanf(lines.Text(), "%x-%x %s %s %s %s %s", &m.from, &m.to, &m.mode, &offset, &device, &inode, &m.path); n >= 6 {
			found = append(found, m)
		} else if size, ok := strings.CutPrefix(lines.Text(), "Anonymous:"); ok && len(found) > 0 {
			found[len(found)-1].anonymous = strings.TrimSpace(size) != "0 kB"
		}
	}
	return found, lines.Err()
}
