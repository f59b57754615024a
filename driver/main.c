// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - the module: parameters, the device class, its numbers
 */
#include <linux/fs.h>
#include <linux/idr.h>
#include <linux/module.h>

#include "driver.h"

unsigned int vine_peer_timeout_ms = 5000;
module_param_named(peer_timeout_ms, vine_peer_timeout_ms, uint, 0444);
MODULE_PARM_DESC(peer_timeout_ms,
		 "a peer that has not beaten for so long hangs up (default 5000)");

bool vine_plain;
module_param_named(plain, vine_plain, bool, 0444);
MODULE_PARM_DESC(plain, "claim ivshmem-plain devices too, even blank ones");

struct class vine_class = {
	.name = "vine",
};

static dev_t vine_devt;
static DEFINE_IDA(vine_minors);

int vine_devt_get(dev_t *devt)
{
	int minor = ida_alloc_max(&vine_minors, VINE_MAX_DEVICES - 1, GFP_KERNEL);

	if (minor < 0)
		return minor;
	*devt = MKDEV(MAJOR(vine_devt), minor);
	return 0;
}

void vine_devt_put(dev_t devt)
{
	ida_free(&vine_minors, MINOR(devt));
}

static int __init vine_init(void)
{
	int err;

	err = alloc_chrdev_region(&vine_devt, 0, VINE_MAX_DEVICES, "vine");
	if (err)
		return err;
	err = vine_inodes_init();
	if (err)
		goto chrdev;
	err = class_register(&vine_class);
	if (err)
		goto inodes;
	err = vine_pci_init();
	if (err)
		goto class;
	err = vine_loopback_init();
	if (err)
		goto pci;
	return 0;
pci:
	vine_pci_exit();
class:
	class_unregister(&vine_class);
inodes:
	vine_inodes_exit();
chrdev:
	unregister_chrdev_region(vine_devt, VINE_MAX_DEVICES);
	return err;
}
module_init(vine_init);

static void __exit vine_exit_module(void)
{
	vine_loopback_exit();
	vine_pci_exit();
	class_unregister(&vine_class);
	vine_inodes_exit();
	unregister_chrdev_region(vine_devt, VINE_MAX_DEVICES);
	ida_destroy(&vine_minors);
}
module_exit(vine_exit_module);

MODULE_DESCRIPTION("Work queues between virtual machines over ivshmem");
MODULE_LICENSE("GPL");
MODULE_VERSION(VINE_VERSION);
