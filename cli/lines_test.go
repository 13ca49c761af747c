package cli

import (
	"strings"
	"sync"
)

// lines takes output, calls each after the n-th line and done once there are wanted of them.
type lines struct {
	wanted int
	done   func()
	each   func(n int)

	mu  sync.Mutex
	all strings.Builder
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	before := strings.Count(l.all.String(), "\n")
	l.all.Write(p)
	after := strings.Count(l.all.String(), "\n")
	l.mu.Unlock()
	for n := before + 1; n <= after; n++ {
		if l.each != nil {
			l.each(n)
		}
		if n == l.wanted {
			l.done()
		}
	}
	return len(p), nil
}

func (l *lines) text() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Split(strings.TrimSuffix(l.all.String(), "\n"), "\n")
}
