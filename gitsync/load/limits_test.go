package load

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mainstay-cluster/mainstay/object"
)

// tooSlow is processor time that only an input whose cost has exploded needs: all of these take milliseconds.
const tooSlow = 10 * time.Second

// TestLimits feeds what is too much of something; each answer names the bound.
func TestLimits(t *testing.T) {
	header := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\n"
	for name, tc := range map[string]struct {
		file, text string
		want       string // the only line
	}{
		"quadratic aliases": {"a.yaml", header + "data:\n  a: &a " + strings.Repeat("x", 10_000) + "\n" + keys(2000, "*a"),
			"a.yaml:5:3: grows to more than 1048576 bytes when its aliases are written out"},
		"deep flow":              {"a.yaml", "a: " + strings.Repeat("[", 100_000), "a.yaml:1:1: is nested far too deep"},
		"deep block":             {"a.yaml", deepBlock(3000), "a.yaml:65:65: is nested more than 64 levels deep"},
		"deep through alias":     {"a.yaml", "a: &a " + strings.Repeat("[", 40) + strings.Repeat("]", 40) + "\nb: " + strings.Repeat("[", 40) + "*a" + strings.Repeat("]", 40), "a.yaml:2:44: is nested more than 64 levels deep"},
		"deep json":              {"a.json", strings.Repeat("[", 100_000), "a.json:1:65: is nested more than 64 levels deep"},
		"one byte too many":      {"a.yaml", header + "#" + strings.Repeat("x", maxFileBytes), "a.yaml:1:1: is 1048628 bytes large; a manifest may be 1048576 at most"},
		"a large scalar":         {"a.yaml", header + "data: {a: " + strings.Repeat("x", maxFileBytes-100) + "}\n", ""},
		"a large Secret":         {"a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\ndata: {a: " + strings.Repeat("QUFB", 200_000) + "}\n", ""},
		"many keys":              {"a.yaml", header + "data:\n" + keys(60_000, "b"), ""},
		"long environment":       {"a.yaml", podWith("env: [{name: A, value: " + strings.Repeat("x", 200_000) + "}]"), "a.yaml:8:28: Pod default/p: spec.containers[0].env[0].value: may not be more than 131069 bytes"},
		"many texts of a Secret": {"a.yaml", "apiVersion: v1\nkind: Secret\nmetadata: {name: c}\nstringData:\n" + keys(60_000, "b"), ""},
		"many empty documents":   {"a.yaml", strings.Repeat("---\n", 100_000) + header, ""},
	} {
		t.Run(name, func(t *testing.T) {
			start := processorTime(t)
			_, problems := loadFiles(t, map[string]string{tc.file: tc.text})
			if took := processorTime(t) - start; took > tooSlow {
				t.Errorf("took %v", took)
			}
			if got := strings.Join(problems, "\n"); got != tc.want {
				t.Errorf("got  %.300s\nwant %s", got, tc.want)
			}
		})
	}
}

func keys(n int, value string) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "  k%d: %s\n", i, value)
	}
	return b.String()
}

func deepBlock(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.Repeat(" ", i) + "a:\n")
	}
	return b.String()[:min(b.Len(), maxFileBytes)]
}

func podWith(field string) string {
	return "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers:\n  - name: a\n    image: a\n    " + field + "\n"
}

func TestTooManyObjects(t *testing.T) {
	var all []located
	for i := range maxObjects + 2 {
		d := &declaration{Object: Object{Kind: object.KindFor[*corev1.Namespace](), Object: &corev1.Namespace{}, Line: 1, at: position{1, 1}},
			id: identity{kind: "Namespace", name: fmt.Sprint("n", i)}}
		all = append(all, located{declaration: d, path: fmt.Sprint(i, ".yaml")})
	}
	problems := checkAll(all).problems
	if len(problems) != 1 || problems[0].String() != "50000.yaml:1:1: Namespace n50000: the tree declares more than 50000 objects" {
		t.Errorf("got %.300v", problems)
	}
}

// What is wrong ten thousand times must not be looked for ten thousand times in ten thousand places: eight times as many
// mistakes may cost eight times as much, and not sixty-four times.
func TestManyProblemsAreCheap(t *testing.T) {
	for name, text := range map[string]func(lines string) string{
		"bad keys": func(lines string) string {
			return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c}\ndata:\n" + strings.ReplaceAll(lines, "k", "k/")
		},
		"unknown fields": func(lines string) string {
			return "apiVersion: v1\nkind: Pod\nmetadata: {name: c}\nspec:\n" + lines
		},
	} {
		cost := func(n int) time.Duration {
			start := processorTime(t)
			_, problems := loadFiles(t, map[string]string{"a.yaml": text(keys(n, "b"))})
			if len(problems) < 501 {
				t.Fatalf("%s: %d problems", name, len(problems))
			}
			return processorTime(t) - start
		}
		few, many := cost(5_000), cost(40_000)
		if many > 30*few {
			t.Errorf("%s: 5 000 cost %v, 40 000 %v", name, few, many)
		}
	}
}

// processorTime is what this process has used: what else runs on the machine does not change it.
func processorTime(t *testing.T) time.Duration {
	t.Helper()
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		t.Fatal(err)
	}
	return time.Duration(usage.Utime.Nano())
}

func TestTooManyProblems(t *testing.T) {
	_, problems := loadFiles(t, map[string]string{"a.yaml": "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\nspec:\n" + keys(2000, "b")})
	if len(problems) != 501 || problems[0] != "a.yaml: 1500 more problems; only the first 500 of a file are shown" {
		t.Errorf("%d problems, first %s", len(problems), problems[0])
	}
}

// TestSecretsAreNeverRepeated breaks a Secret in every way and looks for its values in what is said of it.
func TestSecretsAreNeverRepeated(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"data: {password: " + secret + "}",
		"data: " + secret,
		"data: [" + secret + "]",
		"stringData: {password: {" + secret + ": 1}}",
		"stringData: {password: [" + secret + "]}",
		"stringData: " + secret,
		"type: kubernetes.io/dockerconfigjson\nstringData: {.dockerconfigjson: " + secret + "}",
		"type: kubernetes.io/dockercfg\nstringData: {.dockercfg: '" + secret + "'}",
		"stringData: {password: !vault " + secret + "}",
		"stringData:\n\tpassword: " + secret,
		"stringData:\n  password: '" + secret + "\n",
		"stringData:\n  password: \"" + secret + "\\0\"\n",
		"stringData:\n  password: " + secret + ": x\n",
		"immutable: " + secret,
	} {
		_, problems := loadFiles(t, map[string]string{"s.yaml": "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\n" + text})
		if len(problems) == 0 {
			t.Errorf("%s: no problem", text)
		}
		for _, p := range problems {
			if strings.Contains(p, secret) || !strings.HasPrefix(p, "s.yaml:") {
				t.Errorf("%s: %s", text, p)
			}
		}
	}
	_, problems := loadFiles(t, map[string]string{"p.yaml": podWith("env: [{name: PASSWORD, value: {a: hunter2}}, {name: B, value: hunter2, valueFrom: {secretKeyRef: {name: x, key: y}}}]")})
	if len(problems) != 3 || bytes.Contains([]byte(strings.Join(problems, "\n")), []byte(secret)) {
		t.Errorf("%s", problems)
	}
}
