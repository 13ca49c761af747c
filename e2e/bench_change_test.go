package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"testing"
	"time"
)

// changes is how many commits one round of BenchmarkImageChange makes.
const changes = 11

// BenchmarkImageChange commits another image of a Deployment of two. p50-ms is the median from the moment the branch moves until the
// engine has created the first new container; own-ms is the part of it until Mainstay asks for that, which includes what the engine
// takes to answer what Mainstay asks before; engine-ms is the rest.
func BenchmarkImageChange(b *testing.B) {
	c := newCluster(b, map[string]string{"web.yaml": sleepers("web", "hello:1.0", 2)})
	path, asked := tap(b, c)
	created := creations(b, c)
	c.args = []string{"--docker-host", "unix://" + path}
	c.up(b)
	c.converge(b, c.head(b))
	var total, own []time.Duration
	for b.Loop() {
		for range changes {
			image := fmt.Sprintf("hello:%d.0", 1+(len(total)+1)%2)
			next := c.prepare(b, image, map[string]string{"web.yaml": sleepers("web", image, 2)})
			time.Sleep(2 * time.Second) // the old Pods go; and what follows faster, Mainstay takes for a flood
			asked.forget()
			created.forget()
			began := c.land(b, next)
			own = append(own, asked.first(b).Sub(began))
			total = append(total, created.first(b).Sub(began))
			b.Logf("asked after %s, created after %s", own[len(own)-1], total[len(total)-1])
			c.converge(b, next)
		}
	}
	b.ReportMetric(milliseconds(median(total)), "p50-ms")
	b.ReportMetric(milliseconds(median(own)), "own-ms")
	b.ReportMetric(milliseconds(median(total)-median(own)), "engine-ms")
	b.ReportMetric(0, "ns/op")
}

// sleepers is a Deployment of the image that does nothing for long, without probes.
func sleepers(name, image string, replicas int) string {
	return fmt.Sprintf(`apiVersion: apps/v1
kind: Deployment
metadata: {name: %[1]s}
spec:
  replicas: %[3]d
  selector:
    matchLabels: {app: %[1]s}
  template:
    metadata:
      labels: {app: %[1]s}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - {name: app, image: %[2]q}
`, name, image, replicas)
}

// times are moments at which something was seen.
type times chan time.Time

func (t times) forget() {
	for len(t) > 0 {
		<-t
	}
}

func (t times) first(b *testing.B) time.Time {
	b.Helper()
	select {
	case at := <-t:
		return at
	case <-time.After(patience):
		b.Fatalf("nothing seen within %s", patience)
	}
	return time.Time{}
}

// creations are the moments at which the engine says it created a container of Mainstay's.
func creations(b *testing.B, c *cluster) times {
	seen := make(times, 1024)
	client := newEngine(b, c.host)
	filter := urlQuery([]byte(`{"type":["container"],"event":["create"],"label":["mainstay.dev/cluster"]}`))
	response, err := client.client.Get("http://engine/events?filters=" + filter)
	check(b, err)
	if response.StatusCode != http.StatusOK {
		b.Fatal(response.Status)
	}
	b.Cleanup(func() { response.Body.Close() })
	go func() {
		for events := json.NewDecoder(response.Body); ; {
			var event struct{ TimeNano int64 }
			if events.Decode(&event) != nil {
				return // closed by the cleanup
			}
			seen <- time.Unix(0, event.TimeNano)
		}
	}()
	return seen
}

// tap is a socket before the engine's; what it returns besides are the moments at which a request to create a container passed.
func tap(b *testing.B, c *cluster) (path string, asked times) {
	path, asked = filepath.Join(c.host.Dir, "tap.sock"), make(times, 1024)
	listener, err := net.Listen("unix", path)
	check(b, err)
	b.Cleanup(func() { listener.Close() })
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return // closed by the cleanup
			}
			go pass(conn.(*net.UnixConn), c.host.Socket(), asked)
		}
	}()
	return path, asked
}

// pass carries one connection to the engine and back.
func pass(client *net.UnixConn, socket string, asked times) {
	defer client.Close()
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return // Mainstay sees its connection end, as it would without us
	}
	engine := conn.(*net.UnixConn)
	defer engine.Close()
	go func() {
		io.Copy(watched{engine, asked}, client)
		engine.CloseWrite()
	}()
	io.Copy(client, engine)
}

// watched notes requests that pass. A request's head is written at once, so it begins a piece.
type watched struct {
	io.Writer
	asked times
}

func (w watched) Write(piece []byte) (int, error) {
	line, _, _ := bytes.Cut(piece, []byte("\r\n"))
	if bytes.HasPrefix(line, []byte("POST ")) && bytes.Contains(line, []byte("/containers/create")) {
		w.asked <- time.Now()
	}
	return w.Writer.Write(piece)
}
