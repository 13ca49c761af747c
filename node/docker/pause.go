package docker

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	cerrdefs "github.com/containerd/errdefs"
	"github.com/docker/docker/api/types/filters"
	"github.com/docker/docker/api/types/image"
)

// pauseRepository holds the images of all versions of Mainstay.
const pauseRepository = "mainstay.dev/pause"

// pauseImage is the sandboxes' image: the program and nothing else, made in memory, so no registry is needed. Its name
// holds its hash, so the image of another version of Mainstay is never taken for it.
type pauseImage struct {
	name    string
	archive []byte // for `docker load`
}

// newPauseImage packs the program for an architecture by Go's name. It is the same, byte for byte, wherever and whenever it is made.
func newPauseImage(goarch string) (pauseImage, error) {
	program := pauseProgram(goarch)
	if program == nil {
		return pauseImage{}, fmt.Errorf("there is no sandbox program for %s: nodes run on amd64 and arm64", goarch)
	}
	layer, err := pack([]packed{{"pause", program}})
	if err != nil {
		return pauseImage{}, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": goarch, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hash(layer)}},
	})
	if err != nil {
		return pauseImage{}, err
	}
	made := pauseImage{name: pauseRepository + ":" + hash(config)[:12]}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{made.name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return pauseImage{}, err
	}
	made.archive, err = pack([]packed{{"manifest.json", manifest}, {"config.json", config}, {"layer.tar", layer}})
	return made, err
}

func hash(content []byte) string {
	sum := sha256.Sum256(content)
	return hex.EncodeToString(sum[:])
}

type packed struct {
	name    string
	content []byte
}

func pack(files []packed) ([]byte, error) {
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		if err := w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o555, Size: int64(len(f.content)), Typeflag: tar.TypeReg}); err != nil {
			return nil, err
		}
		if _, err := w.Write(f.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// loadPause puts the sandboxes' image on the engine.
func (r *Runtime) loadPause(ctx context.Context) error {
	ctx, cancel := within(ctx, changeTimeout, "load the sandbox image")
	defer cancel()
	answer, err := r.cli.ImageLoad(ctx, bytes.NewReader(r.pause.archive))
	if err != nil {
		return fmt.Errorf("load the sandbox image: %w", err)
	}
	defer answer.Body.Close()
	return streamError(answer.Body, func() {})
}

// removePause takes the sandboxes' images off the engine, of whichever version. One that a container uses, another cluster's, stays.
func (r *Runtime) removePause(ctx context.Context) error {
	ctx, cancel := within(ctx, changeTimeout, "remove the sandbox image")
	defer cancel()
	images, err := r.cli.ImageList(ctx, image.ListOptions{Filters: filters.NewArgs(filters.Arg("reference", pauseRepository))})
	if err != nil {
		return fmt.Errorf("list the sandbox images: %w", because(ctx, err))
	}
	var errs []error
	for _, found := range images {
		for _, name := range found.RepoTags {
			_, err := r.cli.ImageRemove(ctx, name, image.RemoveOptions{})
			if err != nil && !cerrdefs.IsNotFound(err) && !cerrdefs.IsConflict(err) {
				errs = append(errs, fmt.Errorf("remove image %s: %w", name, because(ctx, err)))
			}
		}
	}
	return errors.Join(errs...)
}

// streamError reads the messages of a long operation to their end and returns the error that one of them holds. heard is called for each.
func streamError(messages io.Reader, heard func()) error {
	decoder := json.NewDecoder(messages)
	for {
		var message struct{ Error string }
		switch err := decoder.Decode(&message); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read the engine's progress: %w", err)
		case message.Error != "":
			return errors.New(message.Error)
		}
		heard()
	}
}
