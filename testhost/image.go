package testhost

import (
	"archive/tar"
	"bytes"
	"context"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// BusyboxImage puts an image with busybox and links to all its programs on the host, under each of the names.
func (h *Host) BusyboxImage(t testing.TB, names ...string) {
	t.Helper()
	require(t, map[string]string{"busybox": "busybox-static"})
	path, err := exec.LookPath("busybox")
	must(t, err)
	programs, err := exec.Command(path, "--list").Output()
	must(t, err)
	files := []file{{name: "bin/busybox", content: read(t, path)}, {name: "etc/passwd", content: []byte("root:x:0:0::/:/bin/sh\n")}, {name: "tmp/"}}
	for program := range strings.FieldsSeq(string(programs)) {
		if program != "busybox" {
			files = append(files, file{name: "bin/" + program, link: "busybox"})
		}
	}
	h.importImage(t, files, names, "ENV PATH=/bin", `CMD ["sh"]`)
}

// BinaryImage puts an image that holds one static program, /app, and starts it, on the host, under each of the names.
func (h *Host) BinaryImage(t testing.TB, path string, names ...string) {
	t.Helper()
	h.importImage(t, []file{{name: "app", content: read(t, path)}}, names, `ENTRYPOINT ["/app"]`)
}

// GoBinary builds the main package at importPath (or ./relative to the test's directory) as a static program and returns its
// path. Its flags are those of `make build`, so that both share what is compiled, and what else is given.
func GoBinary(t testing.TB, importPath string, flags ...string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "app")
	args := append([]string{"build", "-trimpath", "-ldflags", "-s -w", "-o", path}, flags...)
	cmd := exec.Command("go", append(args, importPath)...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s: %v\n%s", importPath, err, out)
	}
	return path
}

// file is a program if it has content, a link, or a directory if its name ends in a slash.
type file struct {
	name, link string
	content    []byte
}

func read(t testing.TB, path string) []byte {
	t.Helper()
	content, err := os.ReadFile(path)
	must(t, err)
	return content
}

func (h *Host) importImage(t testing.TB, files []file, names []string, changes ...string) {
	t.Helper()
	root := archive(t, files)
	for _, name := range names {
		query := url.Values{"fromSrc": {"-"}, "repo": {name}, "changes": changes}
		_, err := h.request(context.WithoutCancel(t.Context()), http.MethodPost, "/images/create?"+query.Encode(), bytes.NewReader(root))
		must(t, err)
	}
}

func archive(t testing.TB, files []file) []byte {
	t.Helper()
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, f := range files {
		header := &tar.Header{Name: f.name, Mode: 0o755, Size: int64(len(f.content)), Typeflag: tar.TypeReg}
		switch {
		case f.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, f.link
		case strings.HasSuffix(f.name, "/"):
			header.Typeflag, header.Mode = tar.TypeDir, 0o777
		}
		must(t, w.WriteHeader(header))
		_, err := w.Write(f.content)
		must(t, err)
	}
	must(t, w.Close())
	return out.Bytes()
}
