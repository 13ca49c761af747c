package docker

import (
	"log/slog"
	"strings"
	"testing"
)

func TestAHostThatIsNoneIsNamedWithOneThatCanBe(t *testing.T) {
	for _, host := range []string{"nonsense", "tcp://"} {
		_, err := New(Config{Cluster: "c", Host: host, DataDir: t.TempDir(), Log: slog.New(slog.DiscardHandler)})
		if err == nil || !strings.HasPrefix(err.Error(), `docker host "`+host+`": `) || !strings.HasSuffix(err.Error(), "it is like unix:///var/run/docker.sock") {
			t.Errorf("--docker-host %s: %v", host, err)
		}
	}
}
