package routing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/mainstay-cluster/mainstay/durable"
	"github.com/mainstay-cluster/mainstay/node/link"
)

const (
	networkFile = "routes.json"
	// encodeShare and writeShare bound what saving costs: it rests for so many times as long as it took to encode the network,
	// and to have it on the disk. A processor is dear and a disk slow: what is new stays unsaved for as short as either allows.
	encodeShare = 20
	writeShare  = 2
	// saveAgain is when a network is saved again that could not be.
	saveAgain = 5 * time.Second
)

// recall takes in what an earlier run has kept. What it returns is Whole if there was anything.
func (f *Follower) recall() (link.NetworkChange, error) {
	if f.cfg.DataDir == "" {
		return link.NetworkChange{}, nil
	}
	raw, err := os.ReadFile(filepath.Join(f.cfg.DataDir, networkFile))
	if errors.Is(err, fs.ErrNotExist) {
		return link.NetworkChange{}, nil
	}
	if err != nil {
		return link.NetworkChange{}, fmt.Errorf("read the network: %w", err)
	}
	var kept link.NetworkResponse
	if err := json.Unmarshal(raw, &kept); err != nil {
		return link.NetworkChange{}, fmt.Errorf("read the network from %s: %w", networkFile, err)
	}
	change := f.take(&kept)
	select {
	case <-f.unsaved: // it is what was saved
	default:
	}
	return change, nil
}

// keep saves the network whenever it is new, but not so often that it would keep the machine busy, until ctx ends. What the machine
// is to remember when it loses its power is saved within a moment.
func (f *Follower) keep(ctx context.Context) error {
	for {
		select {
		case <-f.unsaved:
			pause(ctx, f.save())
		case <-ctx.Done():
			return nil
		}
	}
}

// keepLast saves what keep left.
func (f *Follower) keepLast() {
	select {
	case <-f.unsaved:
		f.save()
	default:
	}
}

// save keeps the network, whole, as it was told: what this node knows better it will know again. It returns how long to rest.
func (f *Follower) save() (rest time.Duration) {
	if f.cfg.DataDir == "" {
		return 0
	}
	start := time.Now()
	f.mu.Lock()
	resp := f.told.Response(f.store, f.after)
	f.mu.Unlock()
	raw, err := json.Marshal(resp)
	encoded := time.Now()
	if err == nil {
		err = os.MkdirAll(f.cfg.DataDir, 0o700)
	}
	if err == nil {
		err = durable.ReplaceFile(filepath.Join(f.cfg.DataDir, networkFile), raw)
	}
	if err != nil {
		f.cfg.Log.Warn("the network cannot be kept for a restart without servers", "err", err)
		nudge(f.unsaved)
		return saveAgain
	}
	return encodeShare*encoded.Sub(start) + writeShare*time.Since(encoded)
}
