package gitsync

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/mainstay-cluster/mainstay/gitsync/load"
	"github.com/mainstay-cluster/mainstay/object"
)

// clusterFile stands at the root of --path.
const clusterFile = "mainstay.yaml"

// maxClusterFile is as much as load would read of any file.
const maxClusterFile = 1 << 20

// ReadCluster reads the Cluster of the branch's head, before anything else is known: a server needs the cluster's id to
// recognise containers. It is nil if the repository declares none. An error means that it is not known whether it does, so a
// server must not choose an id.
func ReadCluster(ctx context.Context, c Config) (*object.Cluster, error) {
	dir, err := c.directory()
	if err != nil {
		return nil, err
	}
	src, err := open(c)
	if err != nil {
		return nil, err
	}
	defer src.Close()
	at, err := src.head(ctx, c.Branch)
	if err != nil {
		return nil, err
	}
	objects, err := src.objects(ctx, at, asItIs)
	if err != nil {
		return nil, err
	}
	tree, err := load.Git(objects, at.hash, dir)
	if errors.Is(err, load.ErrNoPath) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read commit %s: %w", at.hash, err)
	}
	return clusterOf(ctx, tree)
}

func clusterOf(ctx context.Context, tree load.Tree) (*object.Cluster, error) {
	entries, err := tree.List(ctx, load.Entry{})
	if err != nil {
		return nil, fmt.Errorf("list the repository: %w", err)
	}
	for _, entry := range entries {
		if entry.Path != clusterFile || entry.Mode != load.ModeFile {
			continue
		}
		text, err := tree.Read(ctx, entry, maxClusterFile)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", clusterFile, err)
		}
		return parseCluster(ctx, text, tree.Prefix())
	}
	return nil, nil
}

func parseCluster(ctx context.Context, text []byte, prefix string) (*object.Cluster, error) {
	var loader load.Loader
	set, problems, err := loader.Load(ctx, load.Files(map[string][]byte{clusterFile: text}, prefix))
	if err != nil {
		return nil, err
	}
	if len(problems) == 0 {
		return set.Cluster, nil
	}
	var lines []string
	for _, p := range problems {
		lines = append(lines, fmt.Sprintf("%s:%d:%d: %s", p.Path, p.Line, p.Column, p.Message))
	}
	return nil, fmt.Errorf("the cluster's own settings cannot be read, so its name is not known:\n%s", strings.Join(lines, "\n"))
}
