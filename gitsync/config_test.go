package gitsync_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/mainstay-cluster/mainstay/gitsync"
	"github.com/mainstay-cluster/mainstay/object"
)

func TestLocation(t *testing.T) {
	for name, tc := range map[string]struct{ repo, want, err string }{
		"path":              {repo: "/srv/repo.git", want: "/srv/repo.git"},
		"file":              {repo: "file:///srv/repo.git", want: "/srv/repo.git"},
		"https":             {repo: "https://Git.Example.com/a/b.git", want: "https://git.example.com/a/b.git"},
		"password":          {repo: "https://me:hunter2@git.example.com/a/b", want: "https://git.example.com/a/b"},
		"token alone":       {repo: "https://hunter2@git.example.com/a/b", want: "https://git.example.com/a/b"},
		"ssh":               {repo: "ssh://git@git.example.com:2222/a/b", want: "ssh://git.example.com:2222/a/b"},
		"scp":               {repo: "git@git.example.com:a/b.git", want: "git.example.com:a/b.git"},
		"none":              {repo: "", err: "--repo"},
		"ext":               {repo: "ext::sh -c id", err: "want a path"},
		"option":            {repo: "--upload-pack=id", err: "want a path"},
		"option as host":    {repo: "ssh://-oProxyCommand=id/a", err: "want a host"},
		"ftp":               {repo: "ftp://u:hunter2@example.com/a", err: "ftp:// is not supported"},
		"file with a host":  {repo: "file://example.com/a", err: "names no host"},
		"no path":           {repo: "https://u:hunter2@example.com", err: "want a host and a path"},
		"not a URL at all":  {repo: "https://u:hunter2@exa mple.com/%zz", err: "not a URL"},
		"a path with colon": {repo: "./a:b", want: "a:b"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := gitsync.Config{Repo: tc.repo}.Location()
			switch {
			case tc.err != "" && (err == nil || !strings.Contains(err.Error(), tc.err)):
				t.Errorf("error = %v, want %q", err, tc.err)
			case tc.err == "" && (err != nil || !strings.HasSuffix(got, tc.want)):
				t.Errorf("location = %q, %v; want %q", got, err, tc.want)
			case err != nil && strings.Contains(err.Error(), "hunter2"):
				t.Errorf("the error shows a password: %v", err)
			}
		})
	}
	if _, err := (gitsync.Config{Repo: "/a", Path: "../b"}).Location(); err == nil {
		t.Error("a path out of the repository is accepted")
	}
}

func TestClusterID(t *testing.T) {
	id := func(repo, path string) string { return gitsync.ClusterID(gitsync.Config{Repo: repo, Path: path}, nil) }
	same := id("https://git.example.com/a/b.git", "")
	for _, other := range []string{"https://me:pw@GIT.example.com/a/b", "ssh://git@git.example.com/a/b.git", "git@git.example.com:a/b"} {
		if got := id(other, "."); got != same {
			t.Errorf("%s gives %s, want %s as every way to the same repository", other, got, same)
		}
	}
	if id("https://git.example.com/a/b", "prod") == same || id("https://git.example.com/a/c", "") == same {
		t.Error("another repository or path gives the same id")
	}
	if !regexp.MustCompile(`^repo-[0-9a-f]{10}$`).MatchString(same) {
		t.Errorf("id = %q", same)
	}
	declared := &object.Cluster{}
	declared.Name = "prod"
	if got := gitsync.ClusterID(gitsync.Config{Repo: "/x"}, declared); got != "prod" {
		t.Errorf("id = %q, want the declared one", got)
	}
}

// P11: whatever is wrong with a URL, its password is in no message.
func TestNoPasswordInWhatIsSaidOfAURL(t *testing.T) {
	for _, repo := range []string{
		"https://ada:hunter2@git.example.com/ops.git", "https://ada:hun/hunter2@git.example.com/ops.git", "https://ada:p@hunter2@git.example.com/ops.git",
		"https://ada:hunter2@git.example.com:bad/ops.git", "ftp://ada:hunter2@git.example.com/ops.git", "https://:hunter2@/", "ssh://ada:%zzhunter2@h/p",
	} {
		location, err := gitsync.Config{Repo: repo}.Location()
		said := location
		if err != nil {
			said += err.Error()
		}
		if strings.Contains(said, "hunter2") {
			t.Errorf("of %s is said: %s", repo, said)
		}
	}
}
