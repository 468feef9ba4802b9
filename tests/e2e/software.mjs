// SPDX-License-Identifier: Apache-2.0
// The software that is promised to work, each installed by a Dockerfile, asked something that it
// can only answer when it works, suspended and resumed, and asked again. Packages come from the
// distribution's archive. Run by `make check-software`; SOFTWARE names some of them.

import { test } from 'node:test';
import assert from 'node:assert/strict';
import { authToken, createImage, fetchVm, folder, imageBuilt, signed, until, vms, vmState } from './lib.mjs';

const stamp = Date.now().toString(36);
const only = (process.env.SOFTWARE || '').split(/[ ,]+/).filter(Boolean);
const BUILD_LIMIT = 3_600_000;

async function forget(arn) {
  for (const vm of (await vms.listMicrovms({ imageIdentifier: arn })).items)
    if (vm.state !== 'TERMINATED') {
      await vms.terminateMicrovm({ microvmIdentifier: vm.microvmId });
      await vmState(vm.microvmId, 'TERMINATED').catch(() => {});
    }
  await vms.deleteMicrovmImage({ imageIdentifier: arn });
}

// One microVM of one image: commands in it, requests to it, its sleep.
class Machine {
  constructor(vm, tokens) {
    this.id = vm.microvmId;
    this.endpoint = vm.endpoint;
    this.tokens = tokens;
  }

  async command(words, { fails, stdin } = {}) {
    const answer = await signed(`/dormouse/v1/microvms/${this.id}/exec`, {
      method: 'POST',
      body: JSON.stringify({
        command: Array.isArray(words) ? words : ['sh', '-c', words],
        timeoutInSeconds: 600,
        ...(stdin ? { stdin } : {}),
      }),
    });
    assert.equal(answer.status, 200, answer.text);
    const { exitCode, stdout, stderr } = answer.json;
    if (!fails) assert.equal(exitCode, 0, `${words}: ${stdout}${stderr}`);
    return { exitCode, text: stdout };
  }

  // Until it succeeds: what starts in the background.
  async patiently(words) {
    return until(words, async () => {
      const got = await this.command(words, { fails: true });
      return got.exitCode === 0 ? got : undefined;
    }, { timeout: 600_000, every: 3000 });
  }

  async get(path) {
    const answer = await fetchVm(this.endpoint, path, { token: this.tokens });
    assert.equal(answer.status, 200, answer.text);
    return answer;
  }

  async sleep() {
    await vms.suspendMicrovm({ microvmIdentifier: this.id });
    await vmState(this.id, 'SUSPENDED');
    await vms.resumeMicrovm({ microvmIdentifier: this.id });
    await vmState(this.id, 'RUNNING');
  }
}

function software(name, { memory = 512, image = {}, ports = [{ port: 8080 }] }, check) {
  test(name, { skip: only.length && !only.includes(name) ? 'not asked for' : false }, async (t) => {
    const begin = performance.now();
    const files = folder(new URL(`./software/${name}`, import.meta.url).pathname);
    const lines = [];
    const made = await createImage(`${name}-${stamp}`, files, {
      resources: [{ minimumMemoryInMiB: memory }],
      ...image,
    });
    try {
      const built = await imageBuilt(made.imageArn, '1.0', (l) => lines.push(l), {
        timeout: BUILD_LIMIT,
        every: 10_000,
      });
      assert.equal(built.state, 'CREATED', `${built.stateReason}\n${lines.slice(-40).join('\n')}`);
      const ready = performance.now();
      t.diagnostic(`built in ${((ready - begin) / 1000).toFixed(0)} s`);
      const vm = await vms.runMicrovm({ imageIdentifier: made.imageArn });
      const machine = new Machine(vm, await authToken(vm.microvmId, ports));
      await vmState(vm.microvmId, 'RUNNING');
      await check(machine, t);
      t.diagnostic(`checked in ${((performance.now() - ready) / 1000).toFixed(0)} s`);
    } finally {
      await forget(made.imageArn);
    }
  });
}

// Nothing is installed here: it fits where the others take too long.
software('python', {}, async (m) => {
  assert.equal((await m.get('/a')).text, 'python 1\n');
  assert.equal((await m.get('/a')).text, 'python 2\n');
  const held = `import sqlite3; db = sqlite3.connect("/app/count.db"); print(*db.execute("SELECT count(*), path FROM hits GROUP BY path").fetchall(), *db.execute("PRAGMA integrity_check").fetchone())`;
  assert.equal((await m.command(['python3', '-c', held])).text, "(2, '/a') ok\n");
  await m.sleep();
  assert.equal((await m.get('/a')).text, 'python 3\n');
  assert.equal((await m.command(['python3', '-c', held])).text, "(3, '/a') ok\n");
});

software('tools', {}, async (m) => {
  await m.command(
    'cd /tmp && git init -q -b main one && cd one && git config user.email a@b && git config user.name n &&' +
      ' seq 1000 >file && git add file && git commit -qm first && git clone -q /tmp/one /tmp/two',
  );
  await m.command('sqlite3 /tmp/db "CREATE TABLE t AS SELECT value AS n FROM generate_series(1, 1000); CREATE INDEX i ON t (n)"');
  await m.command('tmux new-session -d -s work -x 80 -y 24 "exec sh" && tmux send-keys -t work "echo $((6 * 7))-seen" Enter');
  await m.patiently('tmux capture-pane -p -t work | grep -q "^42-seen"');
  await m.sleep();
  assert.equal((await m.command('sqlite3 /tmp/db "SELECT count(*), sum(n) FROM t; PRAGMA integrity_check"')).text, '1000|500500\nok\n');
  await m.command('cd /tmp/two && git fsck --strict && git log --format=%s | grep -qx first && cmp file ../one/file');
  await m.command('tmux send-keys -t work "echo still-$((7 * 8))" Enter');
  await m.patiently('tmux capture-pane -p -t work | grep -q "^still-56"');
  // A package installed in the running machine, from the archive.
  await m.command('apt-get install -y --no-install-recommends hello >/dev/null 2>&1; hello | grep -q "Hello, world"');
});

software('services', {}, async (m) => {
  assert.equal((await m.get('/')).text, 'nginx\n');
  await m.patiently(['bash', '-c', ': </dev/tcp/127.0.0.1/9100']); // it starts beside nginx
  assert.match((await m.get('/metrics')).text, /^node_exporter_build_info\{.*goversion="go1/m);
  assert.equal((await m.command('for i in 1 2 3; do redis-cli INCR n; done; redis-cli LPUSH list a b c')).text, '1\n2\n3\n3\n');
  await m.sleep();
  assert.equal((await m.get('/')).text, 'nginx\n');
  assert.match((await m.get('/metrics')).text, /^go_goroutines [1-9]/m);
  assert.equal((await m.command('redis-cli INCR n; redis-cli LRANGE list 0 -1; redis-cli BGREWRITEAOF >&2; redis-cli PING')).text, '4\nc\nb\na\nPONG\n');
});

software('node', {}, async (m) => {
  const first = (await m.get('/?n=12')).json;
  assert.equal(first.square, 144);
  assert.match(first.node, /^v\d+\./);
  await m.sleep();
  await until('the timer to go on', async () => (await m.get('/?n=3')).json.ticks > first.ticks);
  assert.equal((await m.get('/?n=3')).json.square, 9);
});

software('java', {}, async (m) => {
  const first = Number((await m.get('/')).text.match(/^java (\d+)\n$/)[1]);
  assert.equal((await m.get('/')).text, `java ${first + 1}\n`);
  await m.sleep();
  assert.equal((await m.get('/')).text, `java ${first + 2}\n`);
});

software('postgres', { ports: [{ port: 5432 }] }, async (m) => {
  const sql = async (text) => (await m.command(['psql', '-U', 'postgres', '-h', '127.0.0.1', '-tA', '-c', text])).text;
  await m.patiently('pg_isready -q -h 127.0.0.1');
  await sql('CREATE TABLE t AS SELECT g AS id, md5(g::text) AS sum FROM generate_series(1, 10000) g');
  await sql('CREATE INDEX ON t (sum); ');
  await m.sleep();
  assert.equal(await sql('SELECT count(*), sum(id) FROM t'), '10000|50005000\n');
  assert.equal(await sql("SELECT id FROM t WHERE sum = md5('4711')"), '4711\n');
  assert.equal(await sql('BEGIN; DELETE FROM t WHERE id > 10; ROLLBACK; SELECT count(*) FROM t'), 'BEGIN\nDELETE 9990\nROLLBACK\n10000\n');
  await sql('CHECKPOINT');
});

software('docker', { image: { additionalOsCapabilities: ['ALL'] } }, async (m) => {
  await m.patiently('docker info >/dev/null');
  const info = (await m.command('docker info')).text;
  assert.match(info, /Storage Driver: overlay/);
  assert.match(info, /Cgroup Version: 2/);
  await m.command('docker import /srv/root.tar box >/dev/null');
  assert.equal((await m.command('docker run --rm box /bin/echo from a container')).text, 'from a container\n');
  assert.equal((await m.command('docker run --rm --memory 32m --user 1000:1000 box /bin/id -u')).text, '1000\n');
  // A server with a published port, which outlives a suspend.
  await m.command('docker run -d --name web -p 8081:80 box /bin/httpd -f -p 80 -h /www');
  const ask = 'exec 3<>/dev/tcp/127.0.0.1/8081 && printf "GET / HTTP/1.0\\r\\n\\r\\n" >&3 && cat <&3';
  assert.match((await m.command(['bash', '-c', ask])).text, /contained\n$/);
  await m.sleep();
  assert.match((await m.command(['bash', '-c', ask])).text, /contained\n$/);
  assert.equal((await m.command('docker exec web /bin/cat /www/index.html')).text, 'contained\n');
  await m.command('docker rm -f web');
});
