package linktest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/mainstay-cluster/mainstay/node/link"
)

// post calls an endpoint and decodes what it answers, unless answer is nil.
func (a *Agent) post(ctx context.Context, path string, request, answer any) error {
	body, err := a.call(ctx, path, request)
	if err != nil {
		return err
	}
	defer body.Close()
	if answer != nil {
		if err := json.NewDecoder(body).Decode(answer); err != nil {
			return fmt.Errorf("read answer of %s: %w", path, err)
		}
	}
	_, err = io.Copy(io.Discard, body)
	return err
}

// headBytes hold the fields of an answer before its first list.
const headBytes = 256

// postForHead is post for an answer that can be large: all of it is received, and of the fields only those read that come
// before the first object.
func (a *Agent) postForHead(ctx context.Context, path string, request, answer any) error {
	body, err := a.call(ctx, path, request)
	if err != nil {
		return err
	}
	defer body.Close()
	head := make([]byte, headBytes)
	n, err := io.ReadFull(body, head)
	if err != nil && err != io.ErrUnexpectedEOF {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	if n == 0 {
		return fmt.Errorf("the answer of %s is empty", path) // the server ended in the middle of it
	}
	flat, _, _ := bytes.Cut(head[1:n], []byte("{"))
	end := bytes.LastIndexByte(flat, ',')
	if end < 0 {
		return fmt.Errorf("the answer of %s does not begin with plain fields", path)
	}
	if err := json.Unmarshal(append(append([]byte("{"), flat[:end]...), '}'), answer); err != nil {
		return fmt.Errorf("read answer of %s: %w", path, err)
	}
	_, err = io.Copy(io.Discard, body)
	return err
}

func (a *Agent) call(ctx context.Context, path string, request any) (io.ReadCloser, error) {
	body, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("encode request for %s: %w", path, err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, a.Server+path, bytes.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("make request for %s: %w", path, err)
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := a.Client.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < http.StatusBadRequest {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	said, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10)) // what can be read of why
	return nil, apierrors.NewGenericServerResponse(resp.StatusCode, http.MethodPost, link.NodesResource, a.Name, string(said), 0, false)
}
