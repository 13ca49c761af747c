package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

// settings is a command with a flag of each sort, and what it was given.
type settings struct {
	repo  string
	poll  time.Duration
	count int
	quick bool
	hosts []string
}

func configured(t *testing.T, args ...string) (settings, outcome) {
	t.Helper()
	var s settings
	root := &cobra.Command{Use: "mainstay"}
	AddConfigFlag(root)
	up := &cobra.Command{Use: "up", RunE: func(*cobra.Command, []string) error { return nil }}
	up.Flags().StringVar(&s.repo, "repo", "default", "")
	up.Flags().DurationVar(&s.poll, "poll-every", time.Second, "")
	up.Flags().IntVar(&s.count, "count", 0, "")
	up.Flags().BoolVar(&s.quick, "quick", false, "")
	up.Flags().StringSliceVar(&s.hosts, "hosts", nil, "")
	other := &cobra.Command{Use: "other", RunE: func(*cobra.Command, []string) error { return nil }}
	other.Flags().String("elsewhere", "", "")
	root.AddCommand(up, other)
	var out, errOut strings.Builder
	root.SetOut(&out)
	root.SetErr(&errOut)
	code := Execute(t.Context(), root, append([]string{"up"}, args...))
	return s, outcome{code, out.String(), errOut.String()}
}

func TestFlagsBeatEnvironmentBeatsFileBeatsDefault(t *testing.T) {
	file := t.TempDir() + "/mainstay.yaml"
	writeFile(t, file, "repo: file\npoll-every: 3m\ncount: 1000000\nquick: true\nhosts: [a, b]\nelsewhere: x\n")
	t.Setenv("MAINSTAY_POLL_EVERY", "2m")
	t.Setenv("MAINSTAY_REPO", "environment")
	t.Setenv("MAINSTAY_CONFIG", file)
	got, result := configured(t, "--repo", "flag")
	if result.code != 0 || got.repo != "flag" || got.poll != 2*time.Minute || got.count != 1000000 || !got.quick || strings.Join(got.hosts, " ") != "a b" {
		t.Errorf("%+v %+v", got, result)
	}
}

func TestConfigurationErrorsNameTheirPlace(t *testing.T) {
	for name, tc := range map[string]struct{ file, env, want string }{
		"unknown key":  {"rpeo: x\n", "", `"rpeo" is no flag of any command`},
		"wrong value":  {"count: many\n", "", "mainstay.yaml: count: "},
		"nested":       {"repo: {url: x}\n", "", "mainstay.yaml: repo: must be a single value"},
		"no mapping":   {"- a\n", "", "must be a YAML mapping of flags to values"},
		"environment":  {"", "soon", "environment variable MAINSTAY_POLL_EVERY: "},
		"not a number": {"count: 1.5\n", "", "mainstay.yaml: count: "},
	} {
		t.Run(name, func(t *testing.T) {
			file := t.TempDir() + "/mainstay.yaml"
			writeFile(t, file, tc.file)
			if tc.env != "" {
				t.Setenv("MAINSTAY_POLL_EVERY", tc.env)
			}
			if _, got := configured(t, "--config", file); got.code != 2 || !strings.Contains(got.err, tc.want) {
				t.Errorf("code %d, stderr %q, want %q", got.code, got.err, tc.want)
			}
		})
	}
	if _, got := configured(t, "--config", "/nowhere.yaml"); got.code != 2 || !strings.Contains(got.err, "/nowhere.yaml") {
		t.Errorf("missing file: %+v", got)
	}
}
