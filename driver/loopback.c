// SPDX-License-Identifier: GPL-2.0-only
/*
 * loopback.c - a device of kernel memory with itself as its only peer
 */
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/vmalloc.h>

#include "driver.h"

static bool vine_loopback;
module_param_named(loopback, vine_loopback, bool, 0444);
MODULE_PARM_DESC(loopback, "make a device that connects this machine with itself");

static unsigned int vine_loopback_mb = 64;
module_param_named(loopback_mb, vine_loopback_mb, uint, 0444);
MODULE_PARM_DESC(loopback_mb, "its memory in MiB (default 64)");

struct vine_loopback {
	void *base;
	struct vine_parts parts;
};

static struct platform_device *vine_loopback_device;

static unsigned long vine_loopback_pfn(struct vine_dev *vdev, pgoff_t page)
{
	return vmalloc_to_pfn(vdev->base + (page << PAGE_SHIFT));
}

static void vine_loopback_doorbell(struct vine_dev *vdev, u32 ivposition, u32 vector)
{
	vine_dev_drain(vdev, vector);
}

static void vine_loopback_remove(void *arg)
{
	struct vine_loopback *vl = arg;

	vine_parts_stop(&vl->parts);
	vine_parts_leave(&vl->parts);
	vfree(vl->base);
	vine_parts_free(&vl->parts);
}

static int vine_loopback_probe(struct platform_device *pdev)
{
	struct vine_bus bus = {
		.kind = VINE_KIND_LOOPBACK,
		.vectors = 1,
		.unique = true,
		.pfn = vine_loopback_pfn,
		.doorbell = vine_loopback_doorbell,
	};
	u64 size = (u64)vine_loopback_mb << 20;
	struct vine_loopback *vl;
	int err;

	vl = devm_kzalloc(&pdev->dev, sizeof(*vl), GFP_KERNEL);
	if (!vl)
		return -ENOMEM;
	err = vine_parts_alloc(&vl->parts, &pdev->dev, size);
	if (err)
		return err;
	vl->base = vzalloc(size);
	if (!vl->base) {
		err = -ENOMEM;
		goto free;
	}
	bus.base = vl->base;
	err = vine_parts_start(&vl->parts, &bus);
	if (err)
		goto memory;
	/* not .remove: what that returns differs between kernels */
	return devm_add_action_or_reset(&pdev->dev, vine_loopback_remove, vl);
memory:
	vfree(vl->base);
free:
	vine_parts_free(&vl->parts);
	return err;
}

static struct platform_driver vine_loopback_driver = {
	.driver.name = "vine_loopback",
	.probe = vine_loopback_probe,
};

int vine_loopback_init(void)
{
	unsigned long most = totalram_pages() >> (20 - PAGE_SHIFT) >> 1;
	int err;

	if (!vine_loopback)
		return 0;
	if (vine_loopback_mb < VINE_MIN_SEGMENT >> 20 || vine_loopback_mb > most) {
		pr_err("vine: loopback_mb=%u: must be from %u to half of the memory, %lu\n",
		       vine_loopback_mb, VINE_MIN_SEGMENT >> 20, most);
		return -EINVAL;
	}
	err = platform_driver_register(&vine_loopback_driver);
	if (err)
		return err;
	vine_loopback_device = platform_device_register_simple("vine_loopback",
							       PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(vine_loopback_device)) {
		platform_driver_unregister(&vine_loopback_driver);
		return PTR_ERR(vine_loopback_device);
	}
	return 0;
}

void vine_loopback_exit(void)
{
	if (!vine_loopback)
		return;
	platform_device_unregister(vine_loopback_device);
	platform_driver_unregister(&vine_loopback_driver);
}
