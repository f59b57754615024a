# SPDX-License-Identifier: MIT OR GPL-2.0-only
"""vine_py_test - python/vine.py: VineTalk on the back end local, and queues on a device that
is connected with itself ($VINE_DEVICE). TAP."""

import gc
import os
import select
import threading
import unittest

import vine

PATIENCE = 60   # seconds


class TalkTest(unittest.TestCase):
    def setUp(self):
        self.talk = vine.Talk()
        self.accel = self.talk.accelerators(vine.AccelType.CPU)[0]

    def tearDown(self):
        self.talk.close()

    def add(self, first, second, out):
        """A task: out becomes the second string, the first, and a zero byte."""
        with self.talk.procedure("add") as add, self.talk.data(first) as a, \
             self.talk.data(second) as b:
            return self.accel.issue(add, [a, b], [out])

    def test_a_task_gives_its_result(self):
        with self.talk.data(11) as out:
            with self.add(b"hello", b"world", out):
                pass
            self.assertEqual(bytes(out), b"worldhello\0")

    def test_a_task_has_a_state_and_statistics(self):
        with self.talk.data(11) as out, self.add(b"hello", b"world", out) as task:
            task.wait()
            self.assertEqual(task.state, vine.TaskState.COMPLETED)
            stats = task.stats
            self.assertEqual((stats.in_bytes, stats.out_bytes), (10, 11))
            self.assertTrue(0 < stats.issue_ns <= stats.start_ns <= stats.end_ns)
            self.assertEqual(stats.reason, vine.Reason.NONE)

    def test_a_failed_task_raises_its_reason(self):
        with self.talk.data(3) as out, self.assertRaises(vine.TaskError) as failed:
            with self.add(b"hello", b"world", out):
                pass
        self.assertEqual(failed.exception.reason, vine.Reason.HANDLER)
        self.assertNotEqual(failed.exception.detail, 0)
        self.assertIn(os.strerror(failed.exception.detail), str(failed.exception))

    def test_threads_issue_tasks(self):
        right = []

        def work(number):
            for i in range(50):
                text = b"%d.%d." % (number, i)
                with self.talk.data(len(text) + 2) as out:
                    with self.add(text, b"-", out):
                        pass
                    right.append(bytes(out) == b"-" + text + b"\0")

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(right, [True] * 200)

    def test_a_view_is_the_memory_itself(self):
        with self.talk.data(b"hello") as data:
            data.view[0:1] = b"j"
            self.assertEqual(bytes(data), b"jello")

    def test_a_view_lives_longer_than_all_else(self):
        view = self.talk.data(b"hello").view[1:]
        self.talk.close()
        gc.collect()
        self.assertEqual(bytes(view), b"ello")

    def test_data_for_the_accelerator_only_has_no_view(self):
        with self.talk.data(10, vine.Place.ACCEL_ONLY) as data, self.assertRaises(ValueError):
            data.view

    def test_no_buffer_of_no_bytes(self):
        with self.assertRaises(MemoryError):
            self.talk.data(0)

    def test_an_unknown_procedure_is_a_lookup_error(self):
        with self.assertRaises(LookupError):
            self.talk.procedure("there is no such procedure")

    def test_a_name_is_not_cut_at_a_zero(self):
        with self.assertRaises(ValueError):
            self.talk.procedure("add\0more")

    def test_other_bytes_of_the_same_name_are_refused(self):
        with self.talk.register("noop", b"these"):
            self.talk.register("noop", b"these").close()
            with self.assertRaises(vine.Error):
                self.talk.register("noop", b"others")

    def test_a_procedure_is_gone_when_it_is_closed(self):
        self.talk.register("noop", b"these").close()
        self.talk.register("noop", b"others").close()

    def test_an_accelerator_is_equal_to_itself(self):
        accels = self.talk.accelerators()
        self.assertIn(self.accel, accels)
        self.assertEqual(len(set(accels)), len(accels))

    def test_an_accelerator_says_what_it_is(self):
        self.assertEqual(self.accel.type, vine.AccelType.CPU)
        self.assertEqual(self.accel.location.segment, "local")
        done = self.accel.stats.done
        with self.talk.data(3) as out, self.add(b"a", b"b", out):
            pass
        self.assertEqual(self.accel.stats.done, done + 1)

    def test_an_acquired_accelerator_is_not_acquired_again(self):
        with self.accel.acquire() as virtual:
            self.assertEqual(self.accel.state, vine.AccelState.BUSY)
            with self.assertRaises(vine.Error):
                virtual.acquire()
            with self.assertRaises(vine.Error):
                self.accel.acquire()
        self.accel.acquire().release()

    def test_what_is_closed_says_so(self):
        data, procedure = self.talk.data(1), self.talk.procedure("noop")
        for closed in data, procedure, self.talk:
            closed.close()
            closed.close()
        for use in (lambda: data.view, lambda: self.accel.issue(procedure),
                    self.talk.accelerators):
            with self.assertRaises(ValueError):
                use()

    def test_a_child_of_fork_leaves_its_parents_alone(self):
        reader, writer = os.pipe()
        with self.talk.data(1) as data, self.talk.procedure("noop") as noop:
            child = os.fork()
            if child == 0:
                # The library complains there of each handle that is not the child's own.
                os.dup2(writer, 2)
                data.close()
                noop.close()
                self.talk.close()
                gc.collect()
                os._exit(0 if vine.Talk().accelerators() else 1)
            os.close(writer)
            with open(reader) as complaints:
                self.assertEqual(complaints.read(), "")
            self.assertEqual(os.waitpid(child, 0)[1], 0)

    def test_an_unknown_back_end_is_refused(self):
        self.talk.close()
        gc.collect()
        with self.assertRaises(vine.Error):
            vine.Talk("there is no such back end")


class QueueTest(unittest.TestCase):
    def setUp(self):
        self.device = vine.Device()
        self.addCleanup(self.device.close)

    def pair(self):
        """A queue, the client's side and the server's."""
        sides = []
        with self.device.listen("vine_py_test") as listener:
            thread = threading.Thread(
                target=lambda: sides.append(listener.accept(timeout=PATIENCE)))
            thread.start()
            client = self.device.connect("vine_py_test", timeout=PATIENCE)
            thread.join()
        for queue in client, *sides:
            self.addCleanup(queue.close)
        return client, *sides

    def test_messages_of_all_lengths_come_unchanged(self):
        client, server = self.pair()
        for length in range(57):
            self.assertEqual(client.push(bytes(range(length))), 1)
            self.assertEqual(server.pull(timeout=PATIENCE), [bytes(range(length))])

    def test_several_messages_come_in_order(self):
        client, server = self.pair()
        self.assertEqual(client.push(b"1", b"2", b"3"), 3)
        self.assertEqual(server.pull(least=3, timeout=PATIENCE), [b"1", b"2", b"3"])

    def test_a_message_that_is_too_long_is_refused(self):
        client, _ = self.pair()
        with self.assertRaises(ValueError):
            client.push(bytes(57))

    def test_nothing_came(self):
        client, _ = self.pair()
        with self.assertRaises(BlockingIOError):
            client.pull(timeout=0)
        with self.assertRaises(TimeoutError):
            client.pull(timeout=0.001)

    def test_the_other_side_is_gone(self):
        client, server = self.pair()
        server.push(b"last")
        server.close()
        self.assertEqual(client.pull(timeout=PATIENCE), [b"last"])
        with self.assertRaises(BrokenPipeError):
            client.pull(timeout=PATIENCE)

    def test_select_sees_a_message(self):
        client, server = self.pair()
        self.assertEqual(select.select([server], [], [], 0)[0], [])
        client.push(b"hello")
        self.assertEqual(select.select([server], [], [], PATIENCE)[0], [server])

    def test_a_region_is_shared(self):
        client, server = self.pair()
        with self.device.region(1000) as region:
            self.assertGreaterEqual(region.size, 1000)
            with region.map() as here, server.import_region(client.attach(region)) as other:
                self.assertEqual(other.size, region.size)
                with other.map() as there:
                    here[:5] = b"hello"
                    self.assertEqual(there[:5], b"hello")

    def test_services_are_listed(self):
        with self.device.listen("vine_py_test", type=7):
            found = [s for s in self.device.services() if s.name == "vine_py_test"]
            self.assertEqual([s.type for s in found], [7])

    def test_no_such_service(self):
        with self.assertRaises(FileNotFoundError):
            self.device.connect("vine_py_test", wait_service=False)

    def test_a_service_is_offered_once(self):
        with self.device.listen("vine_py_test"), self.assertRaises(OSError):
            self.device.listen("vine_py_test")

    def test_a_device_tells_of_itself(self):
        info = self.device.info()
        self.assertGreater(info.segment_size, info.chunk_size)

    def test_what_is_closed_says_so(self):
        client, server = self.pair()
        client.close()
        client.close()
        for use in client.pull, client.fileno:
            with self.assertRaises(ValueError):
                use()


class Tap(unittest.TextTestResult):
    """A line of TAP for each test."""

    def line(self, kind, test, more=""):
        name = test.id().split(".", 1)[1].replace("test_", "").replace("_", " ")
        print(f"{kind} {self.testsRun} - python: {name}{more}", flush=True)

    def addSuccess(self, test):
        self.line("ok", test)

    def addError(self, test, err):
        super().addError(test, err)
        self.line("not ok", test)

    addFailure = addError


if __name__ == "__main__":
    unittest.main(testRunner=unittest.TextTestRunner(resultclass=Tap, verbosity=0))
