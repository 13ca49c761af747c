package server

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/mainstay-cluster/mainstay/durable"
)

// nodeFile holds the node's name.
const nodeFile = "node-name"

// nodeName is chosenName, and kept for the next start.
func nodeName(dataDir, configured string) (string, error) {
	name, err := chosenName(dataDir, configured)
	if err != nil {
		return "", err
	}
	if err := durable.ReplaceFile(filepath.Join(dataDir, nodeFile), []byte(name+"\n")); err != nil {
		return "", fmt.Errorf("record the node's name: %w", err)
	}
	return name, nil
}

// chosenName is what this node was called before, else the configured name, else the host's in the form that names take.
// Pods are bound to a name: under another one, the node would be told that none of its Pods are its own.
func chosenName(dataDir, configured string) (string, error) {
	known, err := os.ReadFile(filepath.Join(dataDir, nodeFile))
	name := strings.TrimSpace(string(known))
	switch {
	case name != "" && configured != "" && configured != name:
		return "", fmt.Errorf("this machine is node %s, to which its Pods are bound, and cannot become %s: leave out --node-name, or run with --cleanup and remove %s first", name, configured, dataDir)
	case name != "":
		return name, nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("read the node's name: %w", err)
	}
	return firstName(configured)
}

func firstName(configured string) (string, error) {
	if configured != "" {
		return configured, nil
	}
	name, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("the host has no name: give the node one by --node-name: %w", err)
	}
	return strings.ToLower(name), nil
}
