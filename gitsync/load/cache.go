package load

import (
	"crypto/sha256"
	"encoding/hex"
	"path"
	"sync"
)

// cache remembers manifests by content. It is bounded in source bytes, so that one whole tree always fits, and forgets what
// has not been used while as much again was: two halves, the older dropped when the younger is full.
type cache struct {
	mu    sync.Mutex
	young map[string]*manifest // guarded by mu, as is all below
	old   map[string]*manifest
	bytes int // of source in young
}

func (c *cache) get(id string) *manifest {
	if id == "" {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if m := c.young[id]; m != nil {
		return m
	}
	m := c.old[id]
	if m != nil {
		c.add(id, m)
	}
	return m
}

func (c *cache) put(id string, m *manifest) {
	if id == "" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.add(id, m)
}

// add is called with mu held.
func (c *cache) add(id string, m *manifest) {
	if c.bytes += m.size + entryBytes; c.bytes > maxTreeBytes || c.young == nil {
		c.old, c.young, c.bytes = c.young, make(map[string]*manifest), m.size+entryBytes
	}
	c.young[id] = m
}

// entryBytes is what even an empty file costs to remember.
const entryBytes = 256

// cacheID is what a manifest is remembered by: its content, and what else decides how it is read. "" if the content is unknown.
func cacheID(name, content string) string {
	if content == "" {
		return ""
	}
	if toolFile(name) != "" {
		return content + "\x00" + path.Base(name)
	}
	return content + "\x00" + path.Ext(name)
}

func contentID(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}
