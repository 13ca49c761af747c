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
	goruntime "runtime"
)

// pauseImage is the sandboxes' image: the program and nothing else, made in memory, so no registry is needed. Its name
// holds its hash, so the image of another version of Mainstay is never taken for it.
type pauseImage struct {
	name    string
	archive []byte // for `docker load`
}

// newPauseImage packs the program. It is the same, byte for byte, wherever and whenever it is made.
func newPauseImage(program []byte) (pauseImage, error) {
	if len(program) == 0 {
		return pauseImage{}, fmt.Errorf("there is no sandbox program for %s", goruntime.GOARCH)
	}
	layer, err := pack([]packed{{"pause", program}})
	if err != nil {
		return pauseImage{}, err
	}
	config, err := json.Marshal(map[string]any{
		"architecture": goruntime.GOARCH, "os": "linux",
		"config": map[string]any{"Entrypoint": []string{"/pause"}, "User": "65535:65535"},
		"rootfs": map[string]any{"type": "layers", "diff_ids": []string{"sha256:" + hash(layer)}},
	})
	if err != nil {
		return pauseImage{}, err
	}
	image := pauseImage{name: "mainstay.dev/pause:" + hash(config)[:12]}
	manifest, err := json.Marshal([]map[string]any{{"Config": "config.json", "RepoTags": []string{image.name}, "Layers": []string{"layer.tar"}}})
	if err != nil {
		return pauseImage{}, err
	}
	image.archive, err = pack([]packed{{"manifest.json", manifest}, {"config.json", config}, {"layer.tar", layer}})
	return image, err
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
